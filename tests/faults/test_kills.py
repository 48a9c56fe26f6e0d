"""Killed at random moments and run again, the pipeline ends with the artifacts of an undisturbed run."""

import hashlib
import os
import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlc.store import ArtifactStore
from mlc.store.manifests import MANIFEST
from mlc.store.runs import run_records
from tasks.runtime.artifacts import COSTS_FILE
from tests.flows.smoked import PROJECT
from tests.forked import Forked, Forks

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLC_FAULT_KILLS", "2"))
"""The short form; `make faults` sets 50."""
KILLS_A_WORKSPACE = 4
SEED = int(os.environ.get("MLC_FAULT_SEED", "0"))
OUTSIDE = {"register", "promote"}
"""These stand for something outside the store, whose ids are random."""
SECONDS = 600


def start(forked: Forks, workspace: Path, notes: Path, last_step: int = 0) -> Forked:
    return forked.start(str(workspace), str(notes), str(last_step), cwd=PROJECT, command="tests.faults.worker:main")


def finished(process: Forked) -> None:
    code, _, told = process.communicate(SECONDS)
    assert code == 0, told[-3000:]


def contents(workspace: Path) -> dict[str, str]:
    """Key and digest of what each task of the last run ended with, by the task's name."""
    store, record = ArtifactStore(workspace), run_records(workspace)[-1]
    assert record.end == "completed"
    found = {}
    for task in record.tasks:
        ref = store.find(task["stage"], task["key"])
        assert ref is not None, task["stage"]
        if task["stage"] in OUTSIDE:
            continue
        content = {"": ref.sha256} if task["stage"] != "report" else report_of(store.folder(ref))
        for file, digest in content.items():
            found[f"{task['stage']} {task['subject']} {task['language']} {file}".rstrip()] = f"{ref.key} {digest}"
    return found


_BY_WHICH_RUN = re.compile(
    rb"<dt>(made|run)</dt><dd>[^<]*</dd>|^- (made|run): .*$|<h2>What one model takes</h2>(?s:.*?)</section>",
    re.MULTILINE,
)
"""In the page, and in the model card."""


def report_of(folder: Path) -> dict[str, str]:
    """Digests of a report's files without what says when and by which run it was made, and how long that took.

    Of a page it is one for each part, so that a difference names its place.
    """
    files = {path.name: _BY_WHICH_RUN.sub(b"", path.read_bytes()) for path in sorted(folder.iterdir())}
    parts = {
        f"{name} part {number}" if name.endswith(".html") else name: part
        for name, content in files.items()
        if name not in (MANIFEST, COSTS_FILE)
        for number, part in enumerate(content.split(b"<section") if name.endswith(".html") else [content])
    }
    return {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}


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
def undisturbed(forked: Forks, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace, notes = folder / "workspace", folder / "notes.txt"
    process = start(forked, workspace, notes)
    begun = time.monotonic()
    finished(process)
    return Undisturbed(workspace, notes, contents(workspace), time.monotonic() - begun)


def test_killed_at_random_moments(forked: Forks, undisturbed: Undisturbed, tmp_path: Path) -> None:
    translated = numbers(undisturbed.notes)
    generator = random.Random(SEED)
    kills = place = 0
    while kills < KILLS:
        place += 1
        workspace, notes = tmp_path / f"killed-{place}", tmp_path / f"killed-{place}.txt"
        here = 0
        while here < KILLS_A_WORKSPACE and kills < KILLS:
            process = start(forked, workspace, notes)
            if process.wait(generator.uniform(0, undisturbed.seconds / 2)) is not None:
                finished(process)
                break
            process.send_signal(signal.SIGKILL)
            process.wait(SECONDS)
            kills, here = kills + 1, here + 1
        finished(start(forked, workspace, notes))
        assert contents(workspace) == undisturbed.contents
        assert not any((workspace / "artifacts" / ".damaged").iterdir())
        assert sorted(sentences(workspace)) == sorted(sentences(undisturbed.workspace))
        # Each kill costs at most the batch that it met.
        assert sum(numbers(notes)) - sum(translated) <= here * max(translated)
    assert kills == KILLS


@pytest.mark.full
def test_killed_in_the_midst_of_training(forked: Forks, undisturbed: Undisturbed, tmp_path: Path) -> None:
    workspace, notes = tmp_path / "workspace", tmp_path / "notes.txt"
    process = start(forked, workspace, notes, last_step=4)
    assert process.wait(SECONDS) == -signal.SIGKILL
    before = numbers(notes.with_suffix(".steps"))
    assert before.count(4) == 1
    finished(start(forked, workspace, notes))
    assert contents(workspace) == undisturbed.contents
    # The training that was killed went on after its last checkpoint, the other one after at most one step more.
    steps = numbers(notes.with_suffix(".steps"))
    assert steps.count(4) <= 3
    assert len(steps) <= len(numbers(undisturbed.notes.with_suffix(".steps"))) + 1
