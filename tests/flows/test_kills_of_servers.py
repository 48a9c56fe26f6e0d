"""A worker, the Prefect server and the MLflow server are killed in the middle: the next scheduled run finishes.

And no version is registered twice. Each test has servers of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flows.scheduled.registering import SILENT_SECONDS
from flows.terminal.server import Server, started_server
from mlc.chat.tethered import HOST, free_port
from mlc.store.runs import run_records
from tests.faults.test_pipeline import children
from tests.flows.scheduling import Asked, until, working
from tests.flows.smoked import PROJECT, Mlc
from tests.flows.test_stopping import trains

pytestmark = [pytest.mark.slow, pytest.mark.full]

POOL = "kills"
NIGHT = "align/align-nightly"
STEPS = 60
"""Enough to be in the middle of them, and to finish."""
SECONDS = 400
MODEL = "multilingual-policy"


@dataclass
class Stage:
    """A server with the deployments of a workspace."""

    workspace: Path
    server: Server
    environment: Mapping[str, str]
    again: ExitStack
    """Takes servers that are started in place of killed ones."""

    @property
    def asked(self) -> Asked:
        """The server."""
        return Asked(self.server.api)

    def night(self) -> str:
        """A night begins; the id of its flow run."""
        return self.asked.start(NIGHT)

    def until_it_trains(self, run: str) -> None:
        """Waits until a run is in the middle of its training."""
        number = len(run_records(self.workspace)) or 1
        until(lambda: self.asked.state(run)["type"] == "RUNNING" and trains(self.workspace, number))


@pytest.fixture
def stage(environment: dict[str, str], mlc: Mlc, tmp_path: Path) -> Iterator[Stage]:
    port = free_port()
    with ExitStack() as own:
        server = own.enter_context(started_server(tmp_path / "server", port))
        variables = {"PREFECT_API_URL": server.api, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
        yield Stage(tmp_path / "workspace", server, {**environment, **variables}, own)


def deploy(stage: Stage, mlc: Mlc, registry: str = "null") -> None:
    smoke = (PROJECT / "flows" / "configs" / "smoke.yaml").read_text(encoding="utf-8")
    config = stage.workspace.parent / "long.yaml"
    text = smoke.replace("steps: 3", f"steps: {STEPS}") + f"registry:\n  tracking_uri: {registry}\n"
    config.write_text(text, encoding="utf-8")
    told = ("--config", str(config), "-l", "es", "--workspace", str(stage.workspace), "--pool", POOL)
    ended = mlc("deploy", *told, PREFECT_API_URL=stage.server.api)
    assert ended.code == 0, ended.err


def kill(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


def versions(uri: str) -> list[str]:
    from mlflow.tracking import MlflowClient

    return [str(found.version) for found in MlflowClient(tracking_uri=uri, registry_uri=uri).search_model_versions()]


def database(stage: Stage) -> str:
    return f"sqlite:///{stage.workspace / 'mlflow' / 'mlflow.db'}"


def test_a_worker_is_killed_with_its_run(stage: Stage, mlc: Mlc) -> None:
    deploy(stage, mlc)
    with working(POOL, stage.environment) as worker:
        first = stage.night()
        stage.until_it_trains(first)
        kill(worker.pid, *children(worker.pid))
    assert stage.asked.state(first)["type"] == "RUNNING"
    with working(POOL, stage.environment):
        # It waits in the queue for a run that nobody works on, until that is found to be gone.
        second = stage.night()
        assert stage.asked.ended(second, SILENT_SECONDS + SECONDS)["name"] == "Completed"
    assert stage.asked.state(first)["type"] == "CRASHED"
    assert [record.end for record in run_records(stage.workspace)] == ["killed", "completed"]
    assert versions(database(stage)) == ["1"]


def test_the_prefect_server_is_killed(stage: Stage, mlc: Mlc) -> None:
    deploy(stage, mlc)
    with ExitStack() as workers:
        worker = workers.enter_context(working(POOL, stage.environment))
        first = stage.night()
        stage.until_it_trains(first)
        assert stage.server.process
        os.killpg(stage.server.process.pid, signal.SIGKILL)
        time.sleep(5)
        port = int(stage.server.url.rpartition(":")[2])
        stage.again.enter_context(started_server(stage.workspace.parent / "server", port))
        assert stage.asked.ended(first, SECONDS)["name"] == "Completed"
        if worker.poll() is not None:
            # Whoever supervises it starts it again.
            workers.enter_context(working(POOL, stage.environment))
        second = stage.night()
        assert stage.asked.ended(second, SECONDS)["name"] == "Completed"
    assert [record.end for record in run_records(stage.workspace)] == ["completed", "completed"]
    assert versions(database(stage)) == ["1"]


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """An MLflow server with its database in a folder; in the end it is killed."""
    folder.mkdir(exist_ok=True)
    store = (
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    )
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *store],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            until(lambda: _healthy(port))
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_the_mlflow_server_is_killed(stage: Stage, mlc: Mlc) -> None:
    port = free_port()
    folder, uri = stage.workspace.parent / "tracking", f"http://{HOST}:{port}"
    deploy(stage, mlc, uri)
    with working(POOL, stage.environment):
        with mlflow_server(folder, port) as process:
            first = stage.night()
            stage.until_it_trains(first)
            os.killpg(process.pid, signal.SIGKILL)
        ended = stage.asked.ended(first, SECONDS)
        assert ended["type"] == "FAILED"
        assert "cannot be used" in ended["message"]
        with mlflow_server(folder, port):
            second = stage.night()
            assert stage.asked.ended(second, SECONDS)["name"] == "Completed"
            assert versions(uri) == ["1"]
    records = run_records(stage.workspace)
    assert [record.end for record in records] == ["failed", "completed"]
    # The registry is asked for the champion before the report is written.
    assert [task["stage"] for task in records[-1].tasks if task["state"] == "ran"] == ["report", "register", "promote"]
