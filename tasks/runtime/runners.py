"""Where the stages of a run are computed: in threads of the flow's process, in processes, or in a cluster."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import connection, parent_process
from typing import Any, Self, cast

from prefect import Task
from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.engine import collect_task_run_inputs_sync

from tasks.runtime.engines import Amounts, Cluster, handing_over, submitting
from tasks.runtime.run import Run
from tasks.runtime.settings import RunnerName, RunnerSettings
from tasks.runtime.stopping import SIGNALS

THREADS = 3
PROCESSES = 2
WAITING = 64
"""So many stages wait for their inputs at once, before they are handed to a cluster; threads that do nothing else."""


class _Threads(ThreadPoolTaskRunner[Any]):
    """Prefect's threads, without its own way to end them, by which a stage that begins then has crashed.

    Such a stage asks its run, see :meth:`tasks.runtime.run.Run.is_over`, and is cancelled.
    """

    def cancel_all(self) -> None:
        self._cancel_events.clear()
        super().cancel_all()


class _Processes(ProcessPoolTaskRunner):
    """Prefect's processes, which see inputs only when they are no futures any more, so that it lost the edges."""

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectConcurrentFuture[Any]:
        edges = {name: collect_task_run_inputs_sync(value) for name, value in parameters.items()}
        return super().submit(task, parameters, wait_for, cast("dict[str, set[RunInput]]", edges))


class _Workers(_Processes):
    """Hands stages to the workers of a cluster in the way of Prefect's processes, which are not started.

    Prefect's own runners for Dask and Ray find inputs in lists and mappings, and not in dataclasses.
    """

    def __init__(self, run: Run, cluster: Cluster) -> None:
        super().__init__(max_workers=WAITING)
        self._run, self._cluster = run, cluster
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        TaskRunner.__enter__(self)
        self._executor = cast(Any, self._opened.enter_context(handing_over(self._run, self._cluster)))
        self._resolver_executor = ThreadPoolExecutor(WAITING, thread_name_prefix="mlc-inputs")
        return self

    def __exit__(self, *error: Any) -> None:
        with self._opened:
            super().__exit__(*error)

    def _resolve_futures_and_submit(self, **given: Any) -> Any:  # type: ignore[override]
        submitting(given["task"].name)
        # The variables of this machine are not those of another one.
        return super()._resolve_futures_and_submit(**given | {"env": {}})


class _NoResults(dict[int, Any]):
    """Remembers no result: Prefect would take every later task that is given an equal text for one that needs it."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass


def _begin_process(folder: str) -> None:
    """Lets a process work where its flow does, and end with it, however that ends.

    Signals may reach the whole group: the flow alone takes them, and tells its stages.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(folder)
    flow = parent_process()
    assert flow is not None

    def end_with_it() -> None:
        connection.wait([flow.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_it, name="mlc-tether", daemon=True).start()


RUNNERS: Mapping[RunnerName, Callable[[Run, RunnerSettings, Mapping[str, Amounts]], TaskRunner[Any]]] = {
    "threads": lambda run, settings, resources: _Threads(max_workers=THREADS),
    "processes": lambda run, settings, resources: _Processes(
        max_workers=PROCESSES, initializer=_begin_process, initargs=(os.getcwd(),)
    ),
    "dask": lambda run, settings, resources: _Workers(run, Cluster("dask", settings.address, resources)),
    "ray": lambda run, settings, resources: _Workers(run, Cluster("ray", settings.address, resources)),
}


@contextmanager
def stages_in(run: Run, settings: RunnerSettings, resources: Mapping[str, Amounts]) -> Iterator[None]:
    """Computes the stages that are submitted inside the block; only for the body of a flow.

    What a stage depends on are the futures that it is given, and nothing else.

    Args:
        run: The run that they belong to.
        settings: Where they are computed.
        resources: What a worker of a cluster must have for a stage, by the stage's name.
    """
    context = FlowRunContext.get()
    assert context is not None
    with (
        RUNNERS[settings.name](run, settings, resources) as runner,
        context.model_copy(update={"task_runner": runner, "run_results": _NoResults()}),
    ):
        try:
            yield
        except BaseException:
            run.begin_no_more()
            raise
