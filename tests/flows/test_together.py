"""Two runs in one workspace at once: each artifact is made once, and neither notices more than a wait."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tests.flows.smoked import PROJECT, Smoked
from tests.forked import Forked, Forks

pytestmark = pytest.mark.slow

Start = Callable[[Path, str], Forked]


@pytest.fixture
def start(forked: Forks) -> Start:
    def start(workspace: Path, languages: str) -> Forked:
        arguments = ("--workspace", str(workspace), "--languages", languages, "--json")
        return forked.start("run", "smoke", *arguments, cwd=PROJECT)

    return start


def ended(process: Forked) -> None:
    code, _, err = process.communicate(300)
    assert code == 0, err[-3000:]


def sentences(workspace: Path) -> Counter[tuple[str, str]]:
    """How often each sentence stands in the translation memory, by language."""
    return Counter(
        (path.parent.name, sentence)
        for path in (workspace / "memory").glob("*/*/*/*.parquet")
        for sentence in pq.read_table(path)["sentence"].to_pylist()
    )


def test_two_runs_share_the_work(start: Start, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    # The same configuration twice, and another one that has most of its artifacts in common with it.
    processes = [start(workspace, languages) for languages in ("es", "es", "es,fr")]
    for process in processes:
        ended(process)
    records = run_records(workspace)
    assert [record.end for record in records] == ["completed"] * 3
    ran: Counter[tuple[Any, ...]] = Counter(
        (task["stage"], task["key"]) for record in records for task in record.tasks if task["state"] == "ran"
    )
    assert ran
    assert set(ran.values()) == {1}
    store = ArtifactStore(workspace)
    asked = {(task["stage"], task["key"]) for record in records for task in record.tasks}
    assert asked == set(ran)
    assert all(store.find(stage, key) for stage, key in asked)
    assert not any((store.root / ".damaged").iterdir())
    assert not any((store.root / ".drafts").iterdir())
    assert set(sentences(workspace).values()) == {1}


def test_the_place_of_a_killed_run_is_taken_over(start: Start, smoked: Smoked, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(smoked.one, tmp_path / "workspace"))
    for missing in ("artifacts/translate", "artifacts/.locks", "memory"):
        shutil.rmtree(workspace / missing)
    first = start(workspace, "es")
    locks = workspace / "artifacts" / ".locks"
    deadline = time.monotonic() + 120
    while not list(locks.glob("translate-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # it holds its locks and does nothing
    second = start(workspace, "es")
    while len(run_records(workspace)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate(10)
    ended(second)
    assert [record.end for record in run_records(workspace)] == ["completed", None, "completed"]
