"""Real servers and real runs for the tests of the flow; everything on loopback and in temporary folders."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.terminal.quiet import quiet_environment
from flows.terminal.server import Server
from tests.flows.runs import Flow, flow_on
from tests.forked import Forks, forks

PROJECT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 600
LOADED = ("duckdb", "mlflow.pyfunc", "torch", "transformers", "trl", "flows.align_flow")
"""What a run loads."""
RECORD_SECONDS = 30


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

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
            return Ended(*forked.start(*arguments, cwd=cwd).communicate(RUN_SECONDS))
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


@dataclass(frozen=True)
class TaskRun:
    """A task run, as the Prefect API tells it."""

    name: str
    stage: str
    state: str


@pytest.fixture(scope="session")
def task_runs(server: Server) -> Callable[[str], list[TaskRun]]:
    """Reads the task runs of a flow run from the API, once it has recorded how each ended."""

    def read(run_id: str) -> list[TaskRun]:
        # The server records what it is told some time after it has been told.
        deadline = time.monotonic() + RECORD_SECONDS
        rows, before = ask(run_id), -1
        while time.monotonic() < deadline and not (len(rows) == before and all(map(ended, rows))):
            time.sleep(0.5)
            before, rows = len(rows), ask(run_id)
        # The name of a run begins with its stage.
        return [TaskRun(row["name"], row["name"].split(" · ")[0], row["state"]["name"]) for row in rows]

    def ended(row: dict[str, Any]) -> bool:
        return row["state"] is not None and row["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    def ask(run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = httpx.post(
                f"{server.api}/task_runs/filter",
                json={"flow_runs": {"id": {"any_": [run_id]}}, "offset": len(found), "limit": 100},
                timeout=30,
            )
            page.raise_for_status()
            rows = page.json()
            found += rows
            if len(rows) < 100:
                break
        return found

    return read
