"""A run that is opened by its reference: here the live one, elsewhere one that tells the live one what it did."""

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.remote import RemoteArtifacts
from mlc.store.runs import Journal, announced, is_open, recorded, run_records, take_dead
from tasks.runtime.run import WORKSPACE_VARIABLE, Outcome, Run, RunReference, failing_in, live, live_runs, open_run
from tasks.translate import translate

PROJECT = Path(__file__).parents[2]
OUTCOME = Outcome("demo", "spa_Latn", "prompts", "ran", 1.5, "new", "a" * 64)
ELSEWHERE = """
import json, sys
from tasks.runtime.run import Outcome, RunReference, open_run

run = open_run(RunReference(**json.loads(sys.argv[1])))
outcome = Outcome(**json.loads(sys.argv[2]))
run.display.started(outcome.label, outcome.reason)
run.display.bar(outcome.label, 3)(1)
run.display.note("Something is odd.")
run.record(outcome)
"""
HOLDING = """
import sys, time
from pathlib import Path
from mlc.store.runs import announced

with announced(Path(sys.argv[1]), sys.argv[2]):
    time.sleep(60)
"""


class Remembering:
    """A display that only remembers."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, ...]] = []

    def started(self, label: str, reason: str) -> None:
        self.shown.append(("started", label, reason))

    def bar(self, label: str, total: int) -> Callable[[int], None]:
        return lambda steps: self.shown.append(("bar", label))

    def waits(self, label: str, what: str) -> None:
        self.shown.append(("waits", label, what))

    def finished(self, label: str, outcome: Outcome) -> None:
        self.shown.append(("finished", label))

    def failed(self, label: str) -> None:
        self.shown.append(("failed", label))

    def note(self, sentence: str) -> None:
        self.shown.append(("note", sentence))

    def close(self) -> None:
        self.shown.append(("closed",))


def elsewhere(reference: RunReference, outcome: Outcome) -> "subprocess.Popen[bytes]":
    arguments = (json.dumps(asdict(reference)), json.dumps(asdict(outcome)))
    return subprocess.Popen([sys.executable, "-c", ELSEWHERE, *arguments], cwd=PROJECT)


def test_a_reference_is_small_plain_data(tmp_path: Path) -> None:
    storage = ArtifactStore(tmp_path)
    reference = Run(storage, id="r").reference
    assert reference == RunReference("r", str(tmp_path))
    assert pickle.loads(pickle.dumps(reference)) == reference
    assert json.loads(json.dumps(asdict(reference))) == asdict(reference)


def test_a_stage_travels_by_its_name() -> None:
    travelled = pickle.dumps(translate)
    assert pickle.loads(travelled) is translate
    assert len(travelled) < 100


def test_the_live_run_is_found_in_its_own_process_only_while_it_lives(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path))
    with live(run):
        assert open_run(run.reference) is run
    other = open_run(run.reference)
    assert other is not run
    assert not other.here
    assert other.workspace == run.workspace


def test_what_other_processes_tell_is_shown_and_counted_once(tmp_path: Path) -> None:
    display = Remembering()
    outcomes = [OUTCOME, Outcome("demo", "fra_Latn", None, "cached", 0.0, "there", "b" * 64)]
    with (
        recorded(tmp_path, run_id="r", name="demo", config={"long": "x" * 100_000}) as journal,
        live(Run(ArtifactStore(tmp_path), display, id="r", journal=journal)) as run,
    ):
        run.record(Outcome("own", None, None, "ran", 0.1, "new", "c" * 64))
        processes = [elsewhere(run.reference, outcome) for outcome in outcomes for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0] * 4
        run.catch_up()
        run.catch_up()
        counted = list(run.outcomes)
    assert sorted(outcome.label for outcome in counted) == sorted(
        ["own", *(o.label for o in outcomes for _ in range(2))]
    )
    assert run.outcomes == counted
    assert sorted(display.shown) == sorted(
        [
            ("finished", "own"),
            *(
                entry
                for outcome in outcomes
                for _ in range(2)
                for entry in (
                    ("started", outcome.label, outcome.reason),
                    ("note", "Something is odd."),
                    ("finished", outcome.label),
                )
            ),
        ]
    )
    (record,) = run_records(tmp_path)
    assert (record.name, record.end, len(record.tasks)) == ("demo", "completed", 5)


@pytest.mark.parametrize("wait_seconds", [0.0, 0.1])
def test_the_first_failure_counts(tmp_path: Path, wait_seconds: float) -> None:
    run = Run(ArtifactStore(tmp_path))
    assert run.first_failure(wait_seconds) is None
    first = RuntimeError("first")
    run.fail(first)
    run.fail(RuntimeError("second"))
    assert run.first_failure(wait_seconds) is first


def failed_in(task: str, text: str) -> Exception:
    with pytest.raises(UserError) as caught, failing_in(task):
        raise UserError(text)
    return caught.value


def test_a_failure_that_was_forgiven_is_not_waited_with(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path))
    forgiven, same_words = failed_in("align · a", "No room."), failed_in("align · b", "No room.")
    run.fail(forgiven)
    run.forgive(pickle.loads(pickle.dumps(forgiven)))
    assert run.first_failure() is None
    later = threading.Timer(0.1, run.fail, [same_words])
    later.start()
    assert run.first_failure(60.0) is same_words
    later.join()


@pytest.mark.parametrize("always", [False, True])
def test_a_run_goes_on_where_its_journal_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    display, real, failed = Remembering(), Journal.read_from, threading.Event()

    def read_from(journal: Journal, position: int) -> Any:
        if always or not failed.is_set():
            failed.set()
            raise OSError
        return real(journal, position)

    monkeypatch.setattr(Journal, "read_from", read_from)
    monkeypatch.setattr("tasks.runtime.run.FOLLOWING_SECONDS", 0.01)
    with (
        recorded(tmp_path, run_id="r", name="demo", config={}) as journal,
        live(Run(ArtifactStore(tmp_path), display, id="r", journal=journal)) as run,
    ):
        assert failed.wait(60)
        journal.write({"by": "elsewhere", "task": {"of": "another release"}})
        journal.write({"by": "elsewhere", "note": "Something is odd."})
        while not always and not display.shown:
            time.sleep(0.01)
    assert display.shown == ([] if always else [("note", "Something is odd.")])
    assert run not in live_runs()


def test_a_run_that_is_asked_to_stop_tells_its_stages_elsewhere(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with recorded(tmp_path, run_id="s", name="demo", config={}) as journal:
        run = Run(store, id="s", journal=journal)
        other = open_run(run.reference)
        assert not run.should_stop()
        assert not other.should_stop()
        run.stop()
        assert run.should_stop()
        assert other.should_stop()
    assert run_records(tmp_path)[0].end == "interrupted"
    # The next run is not asked.
    assert not other.should_stop()


def test_a_machine_that_shares_no_disk_tells_by_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    display = Remembering()
    remote = RemoteArtifacts((tmp_path / "storage").as_uri())
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(there))
    with recorded(ArtifactStore(here, remote).workspace, run_id="d", name="demo", config={}) as journal:
        flow = Run(ArtifactStore(here, remote), display, id="d", journal=journal)
        away = open_run(flow.reference)
        assert away.apart
        assert not flow.apart
        assert away.workspace == there
        away.display.note("Something is odd.")
        away.record(OUTCOME)
        flow.catch_up()
        flow.catch_up()
        assert [outcome.label for outcome in flow.outcomes] == [OUTCOME.label]
        assert display.shown == [("note", "Something is odd."), ("finished", OUTCOME.label)]
        assert not away.should_stop()
        flow.stop()
        flow.catch_up()
        monkeypatch.setattr("mlc.store.runs.WORDS_SECONDS", 0.0)
        assert away.should_stop()
        flow.forget_words()
    (record,) = run_records(here)
    assert (len(record.tasks), record.end) == (1, "interrupted")
    assert remote.told("d") == {}


def test_a_machine_that_shares_neither_disk_nor_storage_is_told(tmp_path: Path) -> None:
    ArtifactStore(tmp_path)
    with pytest.raises(UserError, match="share the folder between the machines, or set storage"):
        open_run(RunReference("elsewhere", str(tmp_path), None, 3))


@pytest.mark.parametrize("end", ["killed", "killed, and the next run has begun", "in order"])
def test_a_stage_elsewhere_stops_when_its_flow_is_gone(tmp_path: Path, end: str) -> None:
    with ExitStack() as held:
        held.enter_context(recorded(tmp_path, run_id="g", name="demo", config={}))
        flow = held.enter_context(announced(tmp_path, "g")) if end == "in order" else killable(tmp_path, "g")
        other = open_run(RunReference("g", str(tmp_path), number=1))
        assert not other.should_stop()
        if flow:
            flow.kill()
            flow.wait()
        if "next" in end:
            assert take_dead(tmp_path) == {"g"}
        if flow:
            assert other.should_stop()
    assert other.should_stop()


def killable(workspace: Path, run_id: str) -> "subprocess.Popen[bytes]":
    """A process in whose hands a run is."""
    holding = subprocess.Popen([sys.executable, "-c", HOLDING, str(workspace), run_id], cwd=PROJECT)
    while is_open(workspace, run_id) is None:
        time.sleep(0.01)
    return holding
