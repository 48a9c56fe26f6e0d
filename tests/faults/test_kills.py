"""Killed at random moments and run again, the pipeline ends with the artifacts of an undisturbed run."""

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.server import Server, quiet_environment
from mlc.store import ArtifactStore
from mlc.store.runs import run_records

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
    wanted = {
        **quiet_environment(),
        "PREFECT_API_URL": server.api,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.worker"])
    yield context
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def start(processes: Any, workspace: Path, notes: Path) -> Any:
    from tests.faults.worker import work

    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(workspace, notes, sender))
    process.start()
    sender.close()
    receiver.recv()
    return process


def finished(process: Any) -> None:
    process.join(SECONDS)
    assert process.exitcode == 0


def contents(workspace: Path) -> dict[str, str]:
    """Digest of what each task of the last run ended with, by the task's name."""
    store, record = ArtifactStore(workspace), run_records(workspace)[-1]
    assert record.end == "completed"
    found = {}
    for task in record.tasks:
        ref = store.find(task["stage"], task["key"])
        assert ref is not None, task["stage"]
        if task["stage"] not in OUTSIDE:
            found[f"{task['stage']} {task['subject']} {task['language']}"] = ref.sha256
    return found


def sentences(workspace: Path) -> list[tuple[str, str]]:
    return [
        (path.parent.name, sentence)
        for path in (workspace / "memory").glob("*/*/*/*.parquet")
        for sentence in pq.read_table(path)["sentence"].to_pylist()
    ]


def batches(notes: Path) -> list[int]:
    return [int(size) for size in notes.read_text().split()]


def test_killed_at_random_moments(processes: Any, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    process = start(processes, alone, tmp_path / "alone.txt")
    begun = time.monotonic()
    finished(process)
    seconds = time.monotonic() - begun
    expected = contents(alone)
    translated = batches(tmp_path / "alone.txt")

    generator = random.Random(SEED)
    kills = place = 0
    while kills < KILLS:
        place += 1
        workspace, notes = tmp_path / f"killed-{place}", tmp_path / f"killed-{place}.txt"
        here = 0
        while here < KILLS_A_WORKSPACE and kills < KILLS:
            process = start(processes, workspace, notes)
            process.join(generator.uniform(0, seconds / 2))
            alive = process.is_alive()
            process.kill()
            process.join()
            if not alive:
                assert process.exitcode == 0
                break
            kills, here = kills + 1, here + 1
        finished(start(processes, workspace, notes))
        assert contents(workspace) == expected
        assert not any((workspace / "artifacts" / ".damaged").iterdir())
        assert sorted(sentences(workspace)) == sorted(sentences(alone))
        # Each kill costs at most the batch that it met.
        assert sum(batches(notes)) - sum(translated) <= here * max(translated)
    assert kills == KILLS
