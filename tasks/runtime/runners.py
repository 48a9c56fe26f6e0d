"""Where the stages of a run are computed: in threads of the flow's process, or in processes of their own."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from typing import Any, Literal, cast

from prefect import Task
from prefect.client.schemas.objects import RunInput
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.engine import collect_task_run_inputs_sync

from tasks.runtime.stopping import SIGNALS

THREADS = 3
PROCESSES = 2

RunnerName = Literal["threads", "processes"]


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


RUNNERS: Mapping[RunnerName, Callable[[], TaskRunner[Any]]] = {
    "threads": lambda: ThreadPoolTaskRunner(max_workers=THREADS),
    "processes": lambda: _Processes(max_workers=PROCESSES, initializer=_begin_process, initargs=(os.getcwd(),)),
}


@contextmanager
def stages_in(name: RunnerName) -> Iterator[None]:
    """Computes the stages that are submitted inside the block; only for the body of a flow.

    What a stage depends on are the futures that it is given, and nothing else.
    """
    context = FlowRunContext.get()
    assert context is not None
    with RUNNERS[name]() as runner, context.model_copy(update={"task_runner": runner, "run_results": _NoResults()}):
        yield
