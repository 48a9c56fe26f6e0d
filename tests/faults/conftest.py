import os
from collections.abc import Iterator

import pytest

from flows.terminal.server import Server, free_port, started_server

LONG = "MLC_FAULT_KILLS" in os.environ
"""Whether this is the long form, `make faults`."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started_server(tmp_path_factory.mktemp("prefect"), free_port()) as started:
        yield started
