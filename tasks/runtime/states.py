"""What Prefect says of runs that did not come to their end: nothing stays running or pending that nobody works on."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Cancelled, Crashed

from mlc.store.runs import run_records, take_dead
from tasks.runtime.run import Run, harmless

OPEN = ["RUNNING", "PENDING", "CANCELLING"]
"""Types of states in which something is not over."""
RECORD_SECONDS = 5.0
"""How long to wait for the server to know a task run: it is told of them by events."""
PAUSE_SECONDS = 0.1
NOT_READY = "NotReady"
"""What Prefect calls a task that waited for another one, which did not complete."""
PAGE = 200


@contextmanager
def settled(run: Run) -> Iterator[None]:
    """Cancels, when the block fails, the tasks that never started because others did not complete.

    Prefect leaves them pending for good.
    """
    try:
        yield
    except BaseException:
        harmless(_settle)(run.futures)
        raise


def _settle(futures: Iterable[PrefectConcurrentFuture[Any]]) -> None:
    # One that was withdrawn before a thread took it up is unknown to Prefect.
    started = [future for future in futures if not future.wrapped_future.cancelled()]
    left = [future.task_run_id for future in started if not future.state.is_final()]
    deadline = time.monotonic() + RECORD_SECONDS
    with get_client(sync_client=True) as client:
        while left and time.monotonic() < deadline:
            state = _known_state(client, left[0])
            # What the server records later than what is set here would take its place.
            late = time.monotonic() > deadline - RECORD_SECONDS / 2
            if state is None or (state.name != NOT_READY and not late):
                time.sleep(PAUSE_SECONDS)
                continue
            never: State[None] = Cancelled(message="Never started: something that it needs was stopped or failed.")
            client.set_task_run_state(left.pop(0), never, force=True)


def _known_state(client: SyncPrefectClient, task_run_id: UUID) -> State[Any] | None:
    """The state of a task run; None while the server does not know it."""
    try:
        return client.read_task_run(task_run_id).state
    except ObjectNotFound:
        return None


def reconcile(workspace: Path, own_id: str) -> None:
    """Marks the flow runs of a workspace that were killed, and their tasks, as crashed; for who is alone in it.

    Args:
        workspace: Folder of the workspace.
        own_id: The flow run that asks.
    """
    ids = ({record.id for record in run_records(workspace) if record.id} | take_dead(workspace)) - {own_id}
    if not ids:
        return
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": OPEN}}})
        for flow_run in client.read_flow_runs(flow_run_filter=wanted, limit=PAGE):
            if str(flow_run.id) in ids:
                gone = "Its process was killed; a later run in the same workspace found it gone."
                _crash_tasks(client, str(flow_run.id), gone)
                client.set_flow_run_state(flow_run.id, Crashed(message=gone), force=True)


def _crash_tasks(client: SyncPrefectClient, flow_run_id: str, message: str) -> None:
    own = FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})
    still = TaskRunFilter.model_validate({"state": {"type": {"any_": OPEN}}})
    while task_runs := client.read_task_runs(flow_run_filter=own, task_run_filter=still, limit=PAGE):
        for task_run in task_runs:
            client.set_task_run_state(task_run.id, Crashed(message=message), force=True)
