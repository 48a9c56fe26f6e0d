"""Killed at random moments and run again, the pipeline ends with the artifacts of an undisturbed run."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.terminal.quiet import quiet_environment
from flows.terminal.server import Server
from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tests import forking
from tests.forking import forking_from

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLC_FAULT_KILLS", "2"))
"""The short form; `make faults` sets 50."""
KILLS_A_WORKSPACE = 4
SEED = int(os.environ.get("MLC_FAULT_SEED", "0"))
OUTSIDE = {"register", "promote"}
"""These stand for something outside the store, whose ids are random."""
SECONDS = 600


@pytest.fixture(scope="module")
def processes(server: Server) -> Iterator[Any]:
    """Starts processes that have the libraries loaded already."""
    variables = {
        **quiet_environment(),
        "PREFECT_API_URL": server.api,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with forking_from("tests.faults.worker", variables) as context:
        yield context


def start(processes: Any, workspace: Path, notes: Path, last_step: int | None = None) -> Any:
    from tests.faults.worker import work

    return forking.start(processes, work, workspace, notes, last_step)


def finished(process: Any) -> None:
    process.join(SECONDS)
    assert process.exitcode == 0


def contents(workspace: Path) -> dict[str, str]:
    """Key and digest of what each task of the last run ended with, by the task's name."""
    store, record = ArtifactStore(workspace), run_records(workspace)[-1]
    assert record.end == "completed"
    found = {}
    for task in record.tasks:
        ref = store.find(task["stage"], task["key"])
        assert ref is not None, task["stage"]
        if task["stage"] not in OUTSIDE:
            found[f"{task['stage']} {task['subject']} {task['language']}"] = f"{ref.key} {ref.sha256}"
    return found


def sentences(workspace: Path) -> list[tuple[str, str]]:
    return [
        (path.parent.name, sentence)
        for path in (workspace / "memory").glob("*/*/*/*.parquet")
        for sentence in pq.read_table(path)["sentence"].to_pylist()
    ]


def numbers(notes: Path) -> list[int]:
    return [int(size) for size in notes.read_text().split()]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to."""

    workspace: Path
    notes: Path
    contents: dict[str, str]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(processes: Any, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace, notes = folder / "workspace", folder / "notes.txt"
    process = start(processes, workspace, notes)
    begun = time.monotonic()
    finished(process)
    return Undisturbed(workspace, notes, contents(workspace), time.monotonic() - begun)


def test_killed_at_random_moments(processes: Any, undisturbed: Undisturbed, tmp_path: Path) -> None:
    translated = numbers(undisturbed.notes)
    generator = random.Random(SEED)
    kills = place = 0
    while kills < KILLS:
        place += 1
        workspace, notes = tmp_path / f"killed-{place}", tmp_path / f"killed-{place}.txt"
        here = 0
        while here < KILLS_A_WORKSPACE and kills < KILLS:
            process = start(processes, workspace, notes)
            process.join(generator.uniform(0, undisturbed.seconds / 2))
            alive = process.is_alive()
            process.kill()
            process.join()
            if not alive:
                assert process.exitcode == 0
                break
            kills, here = kills + 1, here + 1
        finished(start(processes, workspace, notes))
        assert contents(workspace) == undisturbed.contents
        assert not any((workspace / "artifacts" / ".damaged").iterdir())
        assert sorted(sentences(workspace)) == sorted(sentences(undisturbed.workspace))
        # Each kill costs at most the batch that it met.
        assert sum(numbers(notes)) - sum(translated) <= here * max(translated)
    assert kills == KILLS


@pytest.mark.full
def test_killed_in_the_midst_of_training(processes: Any, undisturbed: Undisturbed, tmp_path: Path) -> None:
    workspace, notes = tmp_path / "workspace", tmp_path / "notes.txt"
    process = start(processes, workspace, notes, last_step=4)
    process.join(SECONDS)
    assert process.exitcode == -signal.SIGKILL
    before = numbers(notes.with_suffix(".steps"))
    assert before.count(4) == 1
    finished(start(processes, workspace, notes))
    assert contents(workspace) == undisturbed.contents
    # The training that was killed went on after its last checkpoint, the other one after at most one step more.
    steps = numbers(notes.with_suffix(".steps"))
    assert steps.count(4) <= 3
    assert len(steps) <= len(numbers(undisturbed.notes.with_suffix(".steps"))) + 1
