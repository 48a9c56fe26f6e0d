"""What Prefect says of runs whose process is gone."""

import os

import pytest
from prefect import flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from mlc.store.runs import announced
from tasks.runtime.states import reconcile

pytestmark = pytest.mark.slow


@flow
def nothing() -> None:
    """Is never run."""


def test_a_run_that_was_killed_before_it_had_a_record_is_crashed(server, tmp_path):
    with temporary_settings({PREFECT_API_URL: server.api}), get_client(sync_client=True) as client:
        killed, waiting = (client.create_flow_run(nothing, state=Running()).id for _ in range(2))
        process = os.fork()
        if not process:
            with announced(tmp_path, str(killed)):
                os._exit(1)
        os.waitpid(process, 0)
        with announced(tmp_path, str(waiting)):
            reconcile(tmp_path, "another")
        assert client.read_flow_run(killed).state.type.name == "CRASHED"
        assert client.read_flow_run(waiting).state.type.name == "RUNNING"
