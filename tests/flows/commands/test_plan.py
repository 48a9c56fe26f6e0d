"""A plan is quick because it loads nothing that computes; how it is shown."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows import cli
from flows.commands.plan import planned_task
from flows.configuration.reading import load_config
from flows.needs import Models, Needs
from flows.terminal.plan_tables import Task, show_plan, show_work, where_in_words
from mlc.errors import UserError
from mlc.machine import this_machine
from tasks.runtime.run import Outcome
from tasks.runtime.shards import without_shard
from tests.flows.made import made_run
from tests.flows.runs import plan_run
from tests.flows.smoked import PROJECT

PLAN = """
import sys
from flows.configuration.reading import load_config
from flows import cli
from flows.commands.plan import foresee

tasks = foresee(load_config("smoke", workspace=sys.argv[1])).outcomes
print(len(tasks), *sorted({"torch", "transformers", "mlflow", "trl"} & set(sys.modules)))
"""


@pytest.mark.skipif(not metadata.version("torch").endswith("+cpu"), reason="this build of torch is asked for a GPU")
def test_no_library_that_computes_is_loaded(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLAN, str(tmp_path / "workspace")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    count, *loaded = ended.stdout.split()
    assert int(count) > 20
    assert loaded == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"align.carrier": "dpo"}, "carrier dpo compares answers, and none of the 9"),
        ({"models": ["english-only", "consistency-shuffled-within-class"]}, "needs a label for every training prompt"),
        ({"models": ["english-only", "edit"]}, "none of the 9 training prompts has the label harmful"),
        ({"align.max_dropped": 0.05}, "1 of 10 rows of the prompt file cannot be used"),
        ({"align.carrier": "kl", "align.teacher": "nowhere"}, "nowhere"),
        ({"align.carrier": "kl", "align.teacher": "OTHER"}, "has a vocabulary of 999 and the policy one of 768"),
    ],
)
def test_a_plan_knows_what_a_method_lacks(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    rows = [{"prompt": f"Question {number}?", "chosen": "Yes."} for number in range(9)] + [{"prompt": "?"}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    other = Path(shutil.copytree(PROJECT / "data" / "tiny", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 999}), encoding="utf-8")
    if settings.get("align.teacher") == "OTHER":
        settings = settings | {"align.teacher": str(other)}
    given = {"prompts.path": str(file), **settings}
    with pytest.raises(UserError, match=re.escape(words)):
        plan_run(load_config("smoke", workspace=str(tmp_path / "workspace"), overrides=given))


def task(stage: str, language: str | None, action: str = "run", **facts: object) -> Task:
    return {
        "stage": stage,
        "language": language,
        "subject": None,
        "action": action,
        "reason": "new",
        "rows_new": 3,
        "seconds_estimated": 0.5,
        **facts,
    }


PLANNED = [
    task("ingest", None, "cached"),
    task("translate", "deu_Latn"),
    task("translate", "fra_Latn", reason="model [revision] changed"),
    task("translate", "spa_Latn", "cached"),
    task("filter", "deu_Latn", rows_new=None),
    task("filter", "fra_Latn"),
    task("filter", "spa_Latn", seconds_estimated=None),
]


def printed(show: Callable[[list[Task], Console], None], planned: list[Task] = PLANNED) -> list[list[str]]:
    text = io.StringIO()
    show(planned, Console(file=text, width=120))
    return [line.split() for line in text.getvalue().splitlines()]


def test_what_runs_of_a_stage_is_shown_in_one_line() -> None:
    header, *lines, total = printed(show_work)
    assert header[-1] == "why"
    assert lines == [
        ["translate", "2", "2", "6", "1.0", "s", "new,", "and", "others"],
        ["filter", "3", "3", "?", "new"],
    ]
    assert " ".join(total) == (
        "5 tasks would run, 2 are cached; about 2.0 s of work by past runs, and 1 task that never ran here."
    )


def test_shards_of_a_stage_and_language_are_one_line() -> None:
    planned = [
        *(task("translate", "deu_Latn", "cached", subject=f"shard {number}") for number in range(1, 8)),
        task("translate", "deu_Latn", subject="shard 8", reason="input prompts changed"),
        task("translate", "deu_Latn", subject="shard 9"),
        task("translate", "deu_Latn", rows_new=0),
        task("generate", "deu_Latn", "cached", subject="base · shard 1"),
    ]
    _, *lines, _ = printed(show_plan, planned)
    assert [" ".join(line) for line in lines] == [
        "translate German 9 shards run 2 of 9 6 1.0 s input prompts changed, and others",
        "translate German run 0 0.5 s new",
        "generate German base · 1 shards cached",
    ]
    _, line, _ = printed(show_work, planned)
    assert line[:5] == ["translate", "3", "German", "6", "1.5"]


def test_each_shard_is_a_task_and_one_more_joins_them(tmp_path: Path) -> None:
    cut = {"translator.shard_rows": 10, "evaluation.shard_rows": 20}
    planned = plan_run(load_config("smoke", languages=["es"], workspace=str(tmp_path), overrides=cut))
    told = {
        stage: [each["subject"] for each in planned if each["stage"] == stage] for stage in ("translate", "generate")
    }
    assert told["translate"] == ["shard 1", "shard 2", "shard 3", None]
    for whole in ("base", "english-only · seed 0"):
        own = [subject for subject in told["generate"] if without_shard(subject) == whole]
        # In English and in Spanish.
        assert own == [f"{whole} · shard 1", f"{whole} · shard 2", whole] * 2
    assert sum(each["rows_new"] for each in planned if each["stage"] == "translate") == 24


def test_a_plan_counts_the_held_out_prompts_that_are_asked(tmp_path: Path) -> None:
    """80 test prompts in every language, and as many of validation in English alone."""
    planned = plan_run(load_config("quickstart", languages=["es"], workspace=str(tmp_path)))
    for stage, models in (("generate", 3), ("gated", 1), ("evaluate", 4)):
        assert sum(each["rows_new"] for each in planned if each["stage"] == stage) == models * (80 + 80 + 80)


def test_a_whole_plan_has_a_line_for_every_task() -> None:
    _, *lines, total = printed(show_plan)
    assert len(lines) == len(PLANNED)
    assert lines[0] == ["ingest", "cached"]
    assert lines[2] == ["translate", "French", "run", "3", "0.5", "s", "model", "[revision]", "changed"]
    assert total[:4] == ["5", "tasks", "would", "run,"]


def test_models_are_named_by_their_methods_and_many_are_counted() -> None:
    planned = [
        task("generate", code, subject=f"{method} · seed {seed}")
        for code in ("deu_Latn", "fra_Latn", "spa_Latn")
        for method in ("english-only", "consistency", "answer", "decision", "edit")
        for seed in (0, 1)
    ]
    text = io.StringIO()
    show_work(planned, Console(file=text, width=120))
    assert "generate     30  english-only, 4 others  3" in text.getvalue()


def test_the_exit_code_tells_whether_something_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where all is cached, 2 where something would run, and a mistake is 1 then."""
    arguments = ["plan", "smoke", "--workspace", str(tmp_path), "--detailed-exitcode"]
    codes: list[int] = []
    needs = Needs(Models(None), (), {}, this_machine(tmp_path))
    monkeypatch.setattr(cli, "_leave", codes.append)
    for given, planned in (
        (arguments, [Outcome("align", None, None, "planned", 0.0, "new", "k")]),
        (arguments, [Outcome("align", None, None, "cached", 0.0, "", "k")]),
        ([*arguments, "--set", "align.steps=many"], []),
        ([*arguments, "--no-such-option"], []),
        (["plan", "nowhere"], []),
    ):
        tasks = [planned_task(outcome) for outcome in planned]
        monkeypatch.setattr("flows.commands.plan.plan_with_needs", lambda *_, tasks=tasks: (tasks, needs))
        monkeypatch.setattr(sys, "argv", ["mlc", *given])
        cli.main()
    assert codes == [2, 0, 1, 1, 2]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder: times, and bytes of files."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("there", [False, True])
def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Neither a workspace, nor a lock or a catalog in one, nor anything in the current folder."""
    place, workspace = tmp_path / "place", tmp_path / "place" / "deep" / "workspace"
    place.mkdir()
    monkeypatch.chdir(place)
    if there:
        made_run(workspace, {}, lambda run: run.prompts([{"id": "a", "prompt": "x", "label": "y"}], None, "prompts"))
    before = contents(place)
    ended = CliRunner().invoke(cli.app, ["plan", "smoke", "--all", "--workspace", str(workspace)])
    assert (ended.exit_code, "tasks would run" in ended.stdout, "computed in" in ended.stderr) == (0, True, True)
    assert contents(place) == before
    assert workspace.exists() is there


def test_the_quickstart_is_told_first_for_what_it_is(tmp_path: Path) -> None:
    ended = CliRunner().invoke(cli.app, ["plan", "quickstart", "--workspace", str(tmp_path / "w")])
    assert ended.exit_code == 0
    assert " ".join(ended.stderr.split()).startswith(f"{load_config('quickstart').notice} ")
    assert ended.stdout.split()[0] == "stage"
    # What is asked for as JSON is alone on standard output.
    ended = CliRunner().invoke(cli.app, ["plan", "smoke", "--json", "--workspace", str(tmp_path / "w")])
    assert (len(ended.stdout.splitlines()), "would run" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "Stages are computed in threads of this machine."),
        ({"runner": "processes"}, "Stages are computed in processes of this machine."),
        ({"runner": "dask"}, "Stages are computed by a local Dask cluster."),
        (
            {
                "runner": {"name": "dask", "address": "tcp://head:8786"},
                "resources": {"align": {"gpu": 1}, "translate": {"gpu": 0.5, "disk": 2}},
            },
            "Stages are computed by the Dask cluster at tcp://head:8786; resources for align (gpu: 1), "
            "translate (gpu: 0.5, disk: 2).",
        ),
    ],
)
def test_a_plan_says_where_stages_are_computed(settings: dict[str, Any], words: str) -> None:
    if "dask" in str(settings):
        pytest.importorskip("prefect_dask")
    assert where_in_words(load_config("smoke", overrides=settings)) == words
