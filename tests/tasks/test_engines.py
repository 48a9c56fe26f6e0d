"""Calls that are handed to the workers of a Dask cluster, which are threads here; whole runs are in tests/flows."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.terminal.server import free_port
from mlc.errors import UserError
from mlc.store import ArtifactStore
from tasks.runtime.compute import name_on_machine
from tasks.runtime.engines import Cluster, EngineName, handing_over, submitting
from tasks.runtime.run import Run

SECONDS = 20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one worker, which has one GPU, as far as it says."""
    with cluster_of(1) as cluster:
        yield str(cluster.scheduler_address)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"))


@contextmanager
def handing(run: Run, address: str, **resources: Mapping[str, float]) -> Iterator[Executor]:
    with handing_over(run, Cluster("dask", address, resources)) as executor:
        submitting("align")
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


def drafts(run: Run) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (run.store.root / ".drafts").iterdir())


def test_calls_are_computed_in_the_folder_of_the_flow(run: Run, address: str) -> None:
    with handing(run, address, align={"gpu": 1}) as executor:
        assert executor.submit(pow, 2, 5).result(SECONDS) == 32
        assert executor.submit(os.getcwd).result(SECONDS) == os.getcwd()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(SECONDS)
    assert drafts(run) == []


def test_in_the_end_what_has_begun_is_waited_for_and_what_waits_never_begins(run: Run, address: str) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow() -> str:
        begun.set()
        assert go_on.wait(SECONDS)
        return "finished"

    # The worker is in this process, so that what it is handed need not travel.
    HELD.update(slow=slow, late=lambda: done.append("late"))
    with handing(run, address) as executor:
        first, second = (executor.submit(held, name) for name in ("slow", "late"))
        assert begun.wait(SECONDS)
        threading.Timer(0.3, go_on.set).start()
    assert first.result(0) == "finished"
    assert second.cancelled()
    assert not done
    with pytest.raises(CancelledError):
        executor.submit(pow, 2, 2)


HELD: dict[str, Callable[[], Any]] = {}


def held(name: str) -> Any:
    return HELD[name]()


@pytest.mark.parametrize(
    ("engine", "place"), [("dask", "tcp://127.0.0.1:{}"), ("ray", "ray://127.0.0.1:{}"), ("ray", "127.0.0.1:{}")]
)
def test_an_address_that_does_not_answer_is_told_within_seconds(run: Run, engine: EngineName, place: str) -> None:
    cluster, began = Cluster(engine, place.format(free_port()), {}), time.monotonic()
    words = r"^The (Dask|Ray) cluster at '.*' does not answer: start it, or correct runner\.address\.$"
    with pytest.raises(UserError, match=words), handing_over(run, cluster):
        pass
    assert time.monotonic() - began < 6


def test_a_stage_that_no_worker_can_take_is_told(run: Run, address: str) -> None:
    words = r"has no worker with gpu: 2 and disks: 1, as resources\.align asks for"
    asked = {"align": {"gpu": 2, "disks": 1}, "translate": {"gpu": 1}}
    with pytest.raises(UserError, match=words), handing(run, address, **asked):
        pass


@contextmanager
def cluster_of(workers: int) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    place = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    alone = {"threads_per_worker": 1, "processes": False, "memory_limit": None, "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(n_workers=workers, **place, **alone, resources={"gpu": 1}) as cluster:
        yield cluster


def test_a_cluster_without_workers_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.runtime.engines.ANSWER_SECONDS", 0.5)
    told = pytest.raises(UserError, match="has no workers: start one, and run again")
    with cluster_of(0) as cluster, told, handing(run, cluster.scheduler_address):
        pass


def test_a_cluster_that_goes_away_is_told(run: Run) -> None:
    with cluster_of(1) as cluster, handing_over(run, Cluster("dask", cluster.scheduler_address, {})) as executor:
        submitting("align")
        future = executor.submit(time.sleep, 1)
        cluster.close()
        with pytest.raises(UserError, match="is gone: start it, and run again; what is finished is kept"):
            future.result(SECONDS)


def test_a_worker_that_lacks_the_folder_of_the_run_says_so(
    run: Run, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    told = pytest.raises(UserError, match=r"has no folder '.*gone', in which the run works: let workers see")
    with handing(run, address) as executor, told:
        gone.rmdir()
        executor.submit(pow, 2, 2).result(SECONDS)


def test_a_worker_with_other_code_than_the_run_says_so(run: Run, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(["of the run", "of the worker"])
    monkeypatch.setattr("tasks.runtime.engines.code_digest", lambda: next(versions))
    told = pytest.raises(UserError, match="has another version of this project than the run: start it anew")
    with handing(run, address) as executor, told:
        executor.submit(pow, 2, 2).result(SECONDS)


@pytest.mark.parametrize(
    ("device", "seen", "name"),
    [
        ("cpu", "3", "cpu"),
        ("cuda", None, "cuda"),
        ("cuda:0", "", "cuda"),
        ("cuda:1", None, "cuda-1"),
        ("cuda", "0,1", "cuda"),
        ("cuda", "3", "cuda-3"),
        ("cuda:1", "2, 5", "cuda-5"),
        ("cuda", "GPU-8f", "cuda-GPU-8f"),
    ],
)
def test_a_device_has_one_name_for_all_processes_of_a_machine(
    device: str, seen: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert name_on_machine(device) == name
