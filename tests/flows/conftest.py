"""Real servers and real runs for the tests of the flow; everything on loopback and in temporary folders."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flows.terminal.quiet import quiet_environment
from flows.terminal.server import Server
from tests.flows.runs import Flow, TaskRun, flow_on, recorded_task_runs
from tests.forked import Forks, forks

PROJECT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 600
LOADED = ("duckdb", "mlflow.pyfunc", "torch", "transformers", "trl", "flows.align_flow")
"""What a run loads."""


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str
    addresses: frozenset[str] = frozenset()
    """What it connected to, sent to or looked up, as far as Python sees it; of a command without own variables."""

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line at the end of standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, f"standard output must hold one line of JSON, not {len(lines)}"
        return json.loads(lines[0])


Mlc = Callable[..., Ended]


@pytest.fixture(scope="session")
def environment(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a command that uses that server."""
    return {
        **os.environ,
        **quiet_environment(),
        "PREFECT_API_URL": server.api,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def forked(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts commands that find the libraries loaded."""
    folder = tmp_path_factory.mktemp("forked")
    with forks("flows.cli:main", LOADED, environment=environment, project=PROJECT, folder=folder) as starting:
        yield starting


@pytest.fixture(scope="session")
def mlc(environment: dict[str, str], forked: Forks) -> Mlc:
    """Runs `mlc` as a person does, in a process of its own."""

    def run(*arguments: str, cwd: Path = PROJECT, **variables: str) -> Ended:
        if not variables:
            started = forked.start(*arguments, cwd=cwd)
            return Ended(*started.communicate(RUN_SECONDS), addresses=frozenset(started.addresses))
        ended = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=cwd,
            env={**environment, "PYTHONPATH": str(PROJECT), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="module")
def flow(server: Server) -> Iterator[Flow]:
    """The flow in this process: where no command is put to the test, its start would cost more than the run."""
    with flow_on(server.api) as run:
        yield run


@pytest.fixture(scope="session")
def task_runs(server: Server) -> Callable[[str], list[TaskRun]]:
    """Reads the task runs of a flow run from the API, once it has recorded how each ended."""
    return partial(recorded_task_runs, server.api)
