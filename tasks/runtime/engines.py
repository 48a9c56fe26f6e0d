"""Dask and Ray: clusters whose workers compute stages, one that lives as long as the run, or one that is there."""

import hashlib
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from concurrent.futures import wait as wait_for_all
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL

from mlc.errors import UserError
from mlc.packages import ROOTS
from mlc.store.sources import PROJECT_PACKAGES
from tasks.runtime.run import Run
from tasks.runtime.settings import ADDRESS
from tasks.runtime.stopping import SIGNALS

WORKERS = 2
"""Of a local cluster."""
ANSWER_SECONDS = 5.0
"""How long a cluster that is there may take to answer."""

EngineName = Literal["dask", "ray"]
Amounts = Mapping[str, float]
"""Resources, such as ``{"gpu": 1}``."""
Call = Callable[[], Any]
HandOver = Callable[[Call, Amounts, "Future[Any]"], None]
"""Has a worker with these resources compute a call; the future is told what came of it, unless it is cancelled."""

_stage: ContextVar[str] = ContextVar("mlc_stage")
_told: str | None = None
"""Which Prefect server the last call in this process was of, where this is a worker."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster computes."""

    engine: EngineName
    address: str | None
    """Of one that is there; None for a local one, which lives as long as the run."""
    resources: Mapping[str, Amounts]
    """What a worker must have for a stage, by the stage's name."""

    @property
    def label(self) -> str:
        """What it is called in sentences."""
        return f"The {self.engine.capitalize()} cluster {f'at {self.address!r}' if self.address else 'of this run'}"

    @property
    def most(self) -> dict[str, float]:
        """What a worker must have so that every stage finds one."""
        found: dict[str, float] = {}
        for amounts in self.resources.values():
            found |= {name: max(amount, found.get(name, 0)) for name, amount in amounts.items()}
        return found


@contextmanager
def handing_over(run: Run, cluster: Cluster) -> Iterator[Executor]:
    """An executor that hands calls to the workers of a cluster; :func:`submitting` says which stage they are of.

    Raises:
        UserError: The cluster does not answer, or has no worker with the resources of a stage.
    """
    _require_answer(cluster)
    with ENGINES[cluster.engine](cluster) as hand_over:
        yield _Handing(hand_over, cluster.resources, run.store.root / ".drafts", run.id)


def submitting(stage: str) -> None:
    """Says which stage the calls are of that this thread submits next."""
    _stage.set(stage)


class _Handing(Executor):
    """Hands calls over, and waits in the end for those that have begun.

    Which have begun tell files that workers make in a folder of the workspace. In the end that folder is renamed, so
    that nothing begins any more. Workers that do not see the folder are not waited for.
    """

    def __init__(self, hand_over: HandOver, resources: Mapping[str, Amounts], place: Path, run_id: str) -> None:
        self._hand_over, self._resources = hand_over, resources
        self._begun, self._over = place / f"begun-{run_id}", place / f"over-{run_id}"
        self._begun.mkdir(parents=True)
        # Here, because threads that submit know nothing of Prefect's settings.
        self._common = Common(os.getcwd(), code_digest(), PREFECT_API_URL.value())
        self._open: dict[str, Future[Any]] = {}
        self._submitted = 0
        self._lock = threading.Lock()

    def submit(self, call: Call, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._lock:
            if not self._begun.exists():
                raise CancelledError
            self._submitted += 1
            name = str(self._submitted)
            self._open[name] = future
        future.add_done_callback(lambda _: self._open.pop(name))
        there = partial(_compute, self._common, self._begun / name, self._over, partial(call, *args, **kwargs))
        self._hand_over(there, self._resources.get(_stage.get(), {}), future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            if not self._begun.exists():
                return
            self._begun.rename(self._over)
        begun = {path.name for path in self._over.iterdir()}
        left = list(self._open.items())
        for name, future in left:
            if name not in begun:
                future.cancel()
        wait_for_all([future for _, future in left])
        # What is taken back in this moment may still come to a worker, which must see that it is over.
        if not left:
            shutil.rmtree(self._over)


@cache
def code_digest() -> str:
    """Digest of the project's code, as it was when this process first asked.

    A worker outlives runs. It would give what it made with the code that it has loaded the key of what lies there now.
    """
    digest = hashlib.sha256()
    for package in PROJECT_PACKAGES:
        for path in sorted((ROOTS[package] / package).rglob("*.py")):
            digest.update(path.relative_to(ROOTS[package]).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Common:
    """What a worker must have in common with the process of the flow."""

    folder: str
    """In which it works."""
    code: str
    """See :func:`code_digest`."""
    prefect: str | None
    """Address of the Prefect API."""


def _compute(common: Common, begun: Path, over: Path, call: Call) -> Any:
    """What a worker does: the call, in the folder of its flow."""
    if code_digest() != common.code:
        raise UserError(
            f"The worker on {socket.gethostname()!r} has another version of this project than the run: start it anew "
            "with the same one."
        )
    try:
        begun.touch()
    except FileNotFoundError:
        if over.exists():
            raise CancelledError from None
    try:
        os.chdir(common.folder)
    except OSError:
        raise UserError(
            f"The worker on {socket.gethostname()!r} has no folder {common.folder!r}, in which the run works: let "
            "workers see the same folders at the same places."
        ) from None
    _tell(common.prefect)
    return call()


def _tell(prefect: str | None) -> None:
    """Lets Prefect's services in this process tell this server; they would go on with that of an earlier run."""
    global _told
    if _told not in (None, prefect):
        for service in (EventsWorker, APILogWorker):
            service.drain_all(timeout=ANSWER_SECONDS, at_exit=False)
    _told = prefect


def _settle(told: "Future[Any]", result: Callable[[], Any], explain: Callable[[Exception], Exception]) -> None:
    """Tells a future what came of its call, unless it was cancelled meanwhile."""
    if told.set_running_or_notify_cancel():
        try:
            told.set_result(result())
        except Exception as error:
            told.set_exception(explain(error))


def _require_answer(cluster: Cluster) -> None:
    """Checks that somebody answers at the address; the engines themselves take long to say that nobody does."""
    found = ADDRESS[cluster.engine].fullmatch(cluster.address or "")
    if found is None or found["host"] is None:
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), ANSWER_SECONDS).close()
    except (OSError, OverflowError):
        raise _does_not_answer(cluster) from None


def _require_workers(cluster: Cluster, workers: Sequence[Amounts]) -> None:
    """Checks that every stage finds a worker, or it would wait for good.

    Args:
        cluster: The cluster.
        workers: The resources of each of its workers.
    """
    if not workers:
        raise UserError(f"{cluster.label} has no workers: start one, and run again.")
    for stage, asked in cluster.resources.items():
        if not any(all(has.get(name, 0) >= amount for name, amount in asked.items()) for has in workers):
            amounts = " and ".join(f"{name}: {amount:g}" for name, amount in asked.items())
            raise UserError(
                f"{cluster.label} has no worker with {amounts}, as resources.{stage} asks for: start one that has it, "
                "or ask for less."
            )


def _does_not_answer(cluster: Cluster) -> UserError:
    return UserError(f"{cluster.label} does not answer: start it, or correct runner.address.")


def _is_gone(cluster: Cluster) -> UserError:
    return UserError(f"{cluster.label} is gone: start it, and run again; what is finished is kept.")


def _lacks(cluster: Cluster, error: ImportError) -> UserError:
    return UserError(f"{cluster.label} has a worker that lacks what this run has ({error}): install the same there.")


def _ignore_signals() -> None:
    """Signals may reach the whole group: the flow alone takes them, and tells its stages."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _dask(cluster: Cluster) -> Iterator[HandOver]:
    """Dask, through Prefect's runner for it, which finds or starts the cluster and leaves it."""
    import dask
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from prefect_dask import DaskTaskRunner

    # It would write to the terminal what the run tells by itself.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)

    def explain(error: Exception) -> Exception:
        if isinstance(error, KilledWorker):
            return BrokenExecutor(str(error))
        if isinstance(error, ImportError):
            return _lacks(cluster, error)
        return _is_gone(cluster) if isinstance(error, OSError | FutureCancelledError) else error

    where = {"address": cluster.address} if cluster.address else {"cluster_kwargs": _local_dask(cluster)}
    # A stage may start processes, which a daemon may not.
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        DaskTaskRunner(**where, client_kwargs={"timeout": ANSWER_SECONDS}) as runner,
    ):
        try:
            client = runner.client
        except OSError:
            raise _does_not_answer(cluster) from None
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=ANSWER_SECONDS)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        _require_workers(cluster, [worker["resources"] for worker in workers])
        if cluster.address is None:
            client.register_worker_callbacks(setup=_ignore_signals)
        begun: dict[Future[Any], Any] = {}

        def hand_over(call: Call, amounts: Amounts, told: "Future[Any]") -> None:
            # Each call is one of its own, however alike.
            begun[told] = client.submit(call, resources=dict(amounts) or None, pure=False)
            begun[told].add_done_callback(lambda done: _settle(told, done.result, explain))
            # Else it would be computed again whenever the worker that has its result is lost.
            told.add_done_callback(lambda _: begun.pop(told).release())

        yield hand_over


def _local_dask(cluster: Cluster) -> dict[str, Any]:
    return {
        "n_workers": WORKERS,
        "threads_per_worker": 1,
        "resources": cluster.most,
        # How much memory a stage takes is its own matter.
        "memory_limit": None,
        "dashboard_address": "127.0.0.1:0",
        # It computes whatever it is sent, and others on this machine reach it.
        "security": True,
        "silence_logs": logging.CRITICAL,
    }


@contextmanager
def _ray(cluster: Cluster) -> Iterator[HandOver]:
    """Ray, through Prefect's runner for it, which finds or starts the cluster and leaves it."""
    with _set_for_now({"RAY_USAGE_STATS_ENABLED": "0"} | ({} if cluster.address else _TOKEN)):
        import ray
        from prefect_ray import RayTaskRunner

        def explain(error: Exception) -> Exception:
            cause = getattr(error, "cause", None)
            if isinstance(error, ray.exceptions.RayTaskError) and isinstance(cause, Exception):
                return _lacks(cluster, cause) if isinstance(cause, ImportError) else cause
            if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError):
                return BrokenExecutor(str(error))
            return _is_gone(cluster) if isinstance(error, ray.exceptions.RayError | OSError) else error

        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        runner = RayTaskRunner(cluster.address, quiet | ({} if cluster.address else _local_ray(cluster)))
        try:
            with _own_handlers():
                runner.__enter__()
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            _require_workers(cluster, [{_FROM_RAY.get(name, name): node[name] for name in node} for node in nodes])
            compute = ray.remote(_called)
            begun: dict[Future[Any], Any] = {}

            def hand_over(call: Call, amounts: Amounts, told: "Future[Any]") -> None:
                begun[told] = compute.options(**_ray_options(amounts)).remote(call)
                begun[told].future().add_done_callback(lambda done: _settle(told, done.result, explain))
                told.add_done_callback(take_back)

            def take_back(told: "Future[Any]") -> None:
                if told.cancelled():
                    ray.cancel(begun[told])
                del begun[told]

            yield hand_over
        except ConnectionError:
            raise _does_not_answer(cluster) from None
        finally:
            # Prefect's runner leaves a connection to another machine open.
            ray.shutdown()


_FROM_RAY = {"GPU": "gpu", "CPU": "cpu"}
_RAY_OPTIONS = {"gpu": "num_gpus", "cpu": "num_cpus", "memory": "memory"}
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""A local cluster computes whatever it is sent, and Ray's ports are open to the network: this keeps others out."""


def _local_ray(cluster: Cluster) -> dict[str, Any]:
    own = {name: WORKERS * amount for name, amount in cluster.most.items() if name not in _RAY_OPTIONS}
    return {"address": "local", "num_cpus": WORKERS, "resources": own, "include_dashboard": False}


def _ray_options(amounts: Amounts) -> dict[str, Any]:
    options = {_RAY_OPTIONS[name]: amount for name, amount in amounts.items() if name in _RAY_OPTIONS}
    own = {name: amount for name, amount in amounts.items() if name not in _RAY_OPTIONS}
    return options | {"resources": own}


def _called(call: Call) -> Any:
    return call()


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Puts the handlers of signals back, which Ray takes the place of."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _set_for_now(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


ENGINES: Mapping[EngineName, Callable[[Cluster], AbstractContextManager[HandOver]]] = {"dask": _dask, "ray": _ray}
