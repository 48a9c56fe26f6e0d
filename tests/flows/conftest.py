"""Real servers and real runs for the tests of the flow; everything on loopback and in temporary folders."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from flows.terminal.server import Server
from tests.flows.runs import Flow, TaskRun, flow_on, recorded_task_runs


@pytest.fixture(scope="module")
def flow(server: Server) -> Iterator[Flow]:
    """The flow in this process: where no command is put to the test, its start would cost more than the run."""
    with flow_on(server.api) as run:
        yield run


@pytest.fixture(scope="session")
def task_runs(server: Server) -> Callable[[str], list[TaskRun]]:
    """Reads the task runs of a flow run from the API, once it has recorded how each ended."""
    return partial(recorded_task_runs, server.api)
