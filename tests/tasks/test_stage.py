"""The caching of one stage, without the flow around it."""

import asyncio
import concurrent.futures
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture

from mlc.stopping import Stopped
from mlc.store import ArtifactRef, ArtifactStore, Draft
from mlc.store.remote import RemoteArtifacts
from tasks.runtime.models import Model
from tasks.runtime.run import Run, waiting
from tasks.runtime.settings import PolicySettings
from tasks.runtime.stage import (
    Known,
    NotThereError,
    Stage,
    Work,
    _note_failure,
    _waits,
    naming_the_cause,
    produce,
    stage_task,
)
from tasks.runtime.unexpected import Unexpected

STAGE = Stage("demo", version=1, module="mlc.errors")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"))


def make(
    run: Run, text: str, calls: list[str], settings: dict[str, Any] | None = None, **options: Any
) -> State[ArtifactRef]:
    def write(draft: Draft) -> None:
        calls.append(text)
        (draft.path / "file.txt").write_text(text, encoding="utf-8")

    made: Any = produce(run, STAGE, STAGE.parts(settings or {}, {"input": text}), write, **options)
    return made


def test_made_once_then_served(run: Run) -> None:
    calls: list[str] = []
    first, second = make(run, "a", calls), make(run, "a", calls)
    assert calls == ["a"]
    assert (first.name, second.name) == ("Completed", "Cached")
    assert [outcome.state for outcome in run.outcomes] == ["ran", "cached"]
    assert run.outcomes[0].key == run.outcomes[1].key


def test_reason_names_what_changed(run: Run) -> None:
    calls: list[str] = []
    make(run, "a", calls, {"steps": 1})
    make(run, "a", calls, {"steps": 2})
    make(run, "b", calls, {"steps": 2})
    assert [outcome.reason for outcome in run.outcomes] == ["new", "configuration steps 1 → 2", "input input a → b"]


def test_languages_are_compared_with_themselves(run: Run) -> None:
    calls: list[str] = []
    make(run, "a", calls, language="spa_Latn")
    make(run, "b", calls, language="fra_Latn")
    assert [outcome.reason for outcome in run.outcomes] == ["new", "new"]


def test_missing_artifact_is_made_again(run: Run) -> None:
    calls: list[str] = []
    make(run, "a", calls)
    for path in (run.store.root / "demo").rglob("file.txt"):
        path.unlink()
    again = make(run, "a", calls)
    assert again.name == "Completed"
    assert calls == ["a", "a"]
    assert run.outcomes[-1].reason == "its artifact was damaged: its file file.txt is missing"


def test_artifact_that_no_longer_holds_is_made_again(run: Run) -> None:
    calls: list[str] = []
    make(run, "a", calls)
    again = make(run, "a", calls, still_valid=lambda ref: "it is gone from the registry")
    assert again.name == "Completed"
    assert run.outcomes[-1].reason == "it is gone from the registry"
    assert make(run, "a", calls, still_valid=lambda ref: None).name == "Cached"


def test_failed_work_leaves_nothing(run: Run) -> None:
    def write(draft: Draft) -> None:
        (draft.path / "half.txt").write_text("half", encoding="utf-8")
        raise RuntimeError("the disk is full")

    parts = STAGE.parts({}, {"input": "x"})
    with pytest.raises(Unexpected, match=r"RuntimeError at test_stage\.py"):
        produce(run, STAGE, parts, write)
    assert run.store.find("demo", parts.key) is None
    assert not list((run.store.root / ".drafts").iterdir())


def test_plan_foresees_without_writing(tmp_path: Path) -> None:
    calls: list[str] = []

    def body(run: Run, text: str, model: Model | None = None) -> ArtifactRef:
        if model:
            assert isinstance(model.weights, ArtifactRef)
        reference: Any = make(run, text, calls)
        return reference

    task = stage_task("demo", "demo")(body)
    planned = Run(ArtifactStore(tmp_path), planning=True)
    foreseen = task.submit(planned, "a")
    assert isinstance(foreseen, Known)
    following = STAGE.parts({}, {"input": foreseen.result()})
    produce(planned, STAGE, following, lambda draft: None)
    policy = Model("base", None, PolicySettings())
    task.submit(planned, "b", model=replace(policy, weights=foreseen))  # type: ignore[arg-type]
    assert calls == []
    assert [(outcome.state, outcome.reason) for outcome in planned.outcomes] == [
        ("run", "new"),
        ("run", "its input is new"),
        ("run", "new"),
    ]


def test_a_plan_reads_what_the_storage_has_and_leaves_nothing_in_the_workspace(tmp_path: Path) -> None:
    remote = RemoteArtifacts((tmp_path / "storage").as_uri())
    calls: list[str] = []
    make(Run(ArtifactStore(tmp_path / "here", remote)), "a", calls, work=Work(free=True))
    there = ArtifactStore(tmp_path / "there", remote, looking=True)
    planned = Run(there, planning=True, scratch=tmp_path / "scratch")
    found: Any = make(planned, "a", calls, work=Work(free=True))
    assert (calls, planned.outcomes[0].state) == (["a"], "cached")
    assert (there.folder(found) / "file.txt").read_text(encoding="utf-8") == "a"
    assert not there.workspace.exists()


def test_what_goes_with_a_plan_is_not_waited_for_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    make(Run(ArtifactStore(tmp_path), planning=True, scratch=tmp_path / "scratch"), "a", [], work=Work(free=True))
    assert list((tmp_path / "scratch").rglob("file.txt"))
    assert synced == []
    make(Run(ArtifactStore(tmp_path)), "a", [])
    assert synced


def test_a_run_finds_what_is_there_without_a_task(run: Run) -> None:
    calls: list[str] = []

    def body(run: Run, text: str, weights: ArtifactRef | None = None) -> ArtifactRef:
        reference: Any = make(run, text, calls)
        return reference

    task = stage_task("demo", "demo")(body)
    make(run, "a", calls)
    found = task.submit(run, "a")
    assert isinstance(found, Known)
    assert found.result() == run.store.find("demo", run.outcomes[0].key)
    # An input that was found is known to what follows.
    assert task.submit(run, "a", weights=found) == found
    assert [outcome.state for outcome in run.outcomes] == ["ran", "cached", "cached"]
    assert run.futures == []


def test_only_looking_makes_nothing(run: Run) -> None:
    def body(run: Run, text: str) -> ArtifactRef:
        reference: Any = make(run, text, calls)
        return reference

    calls: list[str] = []
    task = stage_task("demo", "demo")(body)
    with pytest.raises(NotThereError):
        task.submit(run.only_looking(), "a")
    make(run, "a", calls)
    next((run.store.root / "demo").rglob("file.txt")).write_text("b", encoding="utf-8")
    with pytest.raises(NotThereError):
        task.submit(run.only_looking(), "a")
    assert calls == ["a"]
    run.stop()
    with pytest.raises(Stopped):
        task.submit(run, "a")


def test_what_waits_for_a_task_is_not_looked_for() -> None:
    future: Any = PrefectConcurrentFuture(uuid4(), concurrent.futures.Future())
    model = Model("base", None, PolicySettings())
    assert _waits({"models": [replace(model, weights=future)]})
    assert not _waits({"models": [model, (1, "text")]})


def test_prefect_is_told_of_work_and_waiting_apart(run: Run) -> None:
    @contextmanager
    def held_by_others() -> Iterator[None]:
        time.sleep(0.3)
        yield

    def write(draft: Draft) -> None:
        with waiting(held_by_others()):
            time.sleep(0.1)

    state: Any = produce(run, STAGE, STAGE.parts({}, {}), write)
    found = re.search(r": ([\d.]+) s of work, ([\d.]+) s of waiting", state.message)
    assert found is not None
    assert float(found[2]) >= 0.3
    assert run.outcomes[0].seconds == pytest.approx(float(found[1]), abs=0.1)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, concurrent.futures.CancelledError])
def test_a_task_that_never_began_is_no_failure(run: Run, kind: type[BaseException]) -> None:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.set_exception(kind("cancelled"))
    _note_failure(run, PrefectConcurrentFuture(uuid4(), future))
    assert run.first_failure() is None
    run.stop()
    with pytest.raises(Stopped), naming_the_cause(run):
        future.result()
