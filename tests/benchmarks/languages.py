"""The pipeline with many languages: what a task costs in processor time and in Prefect's database."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.commands.plan import foresee
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.terminal.server import Server, free_port, started_server
from mlc.languages import ENGLISH, all_languages
from mlc.shipped import shipped_data
from tests.benchmarks.measuring import Figure, progress, rounded

FULL, QUICK = (10, 40), (2,)
PROMPTS, HELD_OUT = 8, 4
OFF = {
    "copied_similarity": 1.1,
    "script_share": 0.0,
    "language_other": 1.1,
    "language_source": 1.1,
    "length_z": 100.0,
    "collapsed_sources": 1000,
}
"""Rules that would drop what is no translation."""


@dataclass(frozen=True)
class Measured:
    """One run, or one plan, of so many languages."""

    tasks: int
    cpu: float
    """Seconds of the flow's process."""
    server: float
    """Seconds of the server's."""
    stages: float
    """Seconds by the clock that tasks worked."""
    wall: float
    database: int
    """Bytes that the database grew by."""


def run(*, quick: bool) -> Iterator[Figure]:
    """Plan, run, plan and rerun with few and with many languages; processor time, because it is not the machine's."""
    for languages in QUICK if quick else FULL:
        for name, measured in measure(languages).items():
            seconds = rounded(measured.cpu / measured.tasks)
            detail = {
                "means": "processor seconds of the flow's process / tasks",
                "min": seconds,
                "max": seconds,
                **{field: rounded(value) for field, value in vars(measured).items()},
                "KiB of the database a task": rounded(measured.database / measured.tasks / 1024),
            }
            yield Figure("languages", f"{name}, {languages} languages", seconds, "ratio", detail)
        progress(f"  {languages} languages")


def measure(languages: int) -> dict[str, Measured]:
    """The figures of one number of languages.

    Args:
        languages: How many, English not counted.
    """
    from tests.flows.runs import flow_on

    with tempfile.TemporaryDirectory() as folder, started_server(Path(folder) / "server", free_port()) as server:
        config = _config(Path(folder), languages)
        with flow_on(server.api):
            from flows.align_flow import align

            found = {"plan": _measured(server, Path(folder), lambda: _plan(config))}
            for name in ("first run", "run in which nothing changed"):
                found[name] = _measured(server, Path(folder), lambda: align(config.model_dump(mode="json"))["tasks"])
            found["plan in which nothing changed"] = _measured(server, Path(folder), lambda: _plan(config))
    return found


def _config(folder: Path, count: int) -> PipelineConfig:
    codes = [language.code for language in all_languages() if language.code != ENGLISH][:count]
    texts = []
    for name in ("train", "validation", "test"):
        lines = shipped_data(f"quickstart/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["prompt"] for line in lines]
    table = folder / "given.jsonl"
    with table.open("w", encoding="utf-8") as file:
        for code in codes:
            for text in dict.fromkeys(texts):
                file.write(json.dumps({"source": text, "target_language": code, "translation": text}) + "\n")
    settings = {
        "workspace": str(folder / "workspace"),
        "languages": codes,
        "prompts.limit": PROMPTS,
        "translator.engine": "given",
        "translator.model": str(table),
        "evaluation.references": None,
        "evaluation.limit": HELD_OUT,
        "evaluation.answers": 2,
        **{f"quality.default.{rule}": value for rule, value in OFF.items()},
    }
    return load_config("smoke", overrides=settings)


def _plan(config: PipelineConfig) -> list[object]:
    return list(foresee(config).outcomes)


def _measured(server: Server, folder: Path, work) -> Measured:  # type: ignore[no-untyped-def]
    size, there = _database(folder), _seconds_of(server)
    wall, cpu = time.perf_counter(), time.process_time()
    tasks = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stages = sum(task["seconds"] for task in tasks if isinstance(task, dict))
    return Measured(len(tasks), cpu, _seconds_of(server) - there, stages, wall, _database(folder) - size)


def _database(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "server").rglob("prefect.db*"))


def _seconds_of(server: Server) -> float:
    """Processor seconds of the server's process."""
    assert server.process is not None
    facts = Path(f"/proc/{server.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, facts[11:13])) / os.sysconf("SC_CLK_TCK")
