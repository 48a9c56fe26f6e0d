"""A run that is asked to stop ends soon, says so truly everywhere, and the next one goes on from there."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.terminal.server import Server, free_port, started_server
from mlc.store.runs import run_records
from tests.faults.test_kills import contents
from tests.flows.runs import TaskRun
from tests.flows.smoked import PROJECT, Mlc, Smoked
from tests.forked import Forked, Forks

pytestmark = pytest.mark.slow

SECONDS = 600
SOON = 20
"""Seconds in which a run that is asked to stop has ended; about three on a machine that does nothing else."""
STEPS = 600
"""Steps of a training that is stopped: half a minute, so that it is still at it where the machine halts for seconds."""
RUN = ("run", "smoke", "--languages", "es", "--set", f"align.steps={STEPS}", "--json", "--workspace")


@dataclass(frozen=True)
class Stopped:
    """What a run left that was stopped."""

    code: int
    told: str
    seconds: float
    id: str
    record: str | None
    checkpoints: list[str]


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def trains(workspace: Path, number: int) -> bool:
    """Whether the run has come to its training."""
    records = run_records(workspace)
    stages = {task["stage"] for task in records[number - 1].tasks} if len(records) >= number else set()
    return "dataset" in stages and any(workspace.glob("artifacts/.drafts/*/trainer"))


def checkpoints(workspace: Path) -> list[str]:
    return sorted(path.name for path in workspace.glob("artifacts/.partial/align-*/checkpoint-*"))


class Stopping:
    """Starts runs in one workspace, one after the other, and stops each in the midst of training.

    A run of the shared workspace came before, with a shorter training: what is not trained is there.
    """

    def __init__(self, forked: Forks, smoked: Smoked, workspace: Path) -> None:
        self.forked = forked
        self.workspace = Path(shutil.copytree(smoked.one, workspace))
        self.started = 1

    def stop(self, how: Callable[[Forked, str], None]) -> Stopped:
        self.started += 1
        run = self.forked.start(*RUN, str(self.workspace), cwd=PROJECT)
        wait_for(lambda: run.poll() is not None or trains(self.workspace, self.started))
        assert run.poll() is None
        how(run, run_records(self.workspace)[-1].id)
        asked = time.monotonic()
        code, _, told = run.communicate(SECONDS)
        record = run_records(self.workspace)[-1]
        return Stopped(code, told, time.monotonic() - asked, record.id, record.end, checkpoints(self.workspace))


@pytest.fixture(scope="module")
def stopping(forked: Forks, smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Stopping:
    return Stopping(forked, smoked, tmp_path_factory.mktemp("stopping") / "workspace")


@pytest.fixture(scope="module")
def interrupted(stopping: Stopping) -> Stopped:
    return stopping.stop(lambda run, _: run.send_signal(signal.SIGINT))


@pytest.fixture(scope="module")
def terminated(stopping: Stopping, interrupted: Stopped) -> Stopped:
    return stopping.stop(lambda run, _: run.send_signal(signal.SIGTERM))


@pytest.fixture(scope="module")
def cancelled(forked: Forks, smoked: Smoked, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    def cancel(run: Forked, run_id: str) -> None:
        state = {"state": {"type": "CANCELLING"}, "force": True}
        httpx.post(f"{server.api}/flow_runs/{run_id}/set_state", json=state, timeout=30).raise_for_status()

    return Stopping(forked, smoked, tmp_path_factory.mktemp("cancelled") / "workspace").stop(cancel)


@pytest.fixture(scope="module")
def killed(stopping: Stopping, terminated: Stopped) -> Stopped:
    return stopping.stop(lambda run, _: run.send_signal(signal.SIGKILL))


@pytest.fixture(scope="module")
def completed(mlc: Mlc, stopping: Stopping, killed: Stopped) -> dict[str, Any]:
    ended = mlc(*RUN, str(stopping.workspace))
    assert ended.code == 0, ended.err[-3000:]
    return ended.result


def flow_state(server: Server, run_id: str) -> str:
    return str(httpx.get(f"{server.api}/flow_runs/{run_id}", timeout=30).json()["state"]["type"])


@pytest.mark.parametrize(
    ("how", "code", "state"),
    [
        ("interrupted", 130, "CRASHED"),
        ("terminated", 143, "CRASHED"),
        pytest.param("cancelled", 143, "CANCELLED", marks=pytest.mark.full),
    ],
)
def test_a_run_that_is_asked_to_stop_ends_soon_and_in_order(
    how: str,
    code: int,
    state: str,
    request: pytest.FixtureRequest,
    server: Server,
    task_runs: Callable[[str], list[TaskRun]],
) -> None:
    stopped: Stopped = request.getfixturevalue(how)
    assert stopped.code == code, stopped.told[-3000:]
    assert stopped.seconds < SOON
    assert "Traceback" not in stopped.told
    assert "Stopping: what works ends at its next step" in stopped.told
    assert stopped.told.rstrip().endswith("Stopped; what is finished is kept, and the next run goes on from there.")
    assert stopped.record == "interrupted"
    assert flow_state(server, stopped.id) == state
    states = {run.state for run in task_runs(stopped.id)}
    assert "Cancelled" in states
    assert states <= {"Completed", "Cached", "Cancelled"}
    # What was trained is kept.
    assert stopped.checkpoints


@pytest.mark.full
def test_the_next_run_goes_on_and_makes_the_same(
    completed: dict[str, Any], stopping: Stopping, interrupted: Stopped, mlc: Mlc, tmp_path: Path
) -> None:
    undisturbed = mlc(*RUN, str(tmp_path / "workspace"))
    assert undisturbed.code == 0, undisturbed.err[-3000:]
    assert contents(stopping.workspace) == contents(tmp_path / "workspace")
    assert not list(stopping.workspace.glob("runs/*.stop"))
    assert not checkpoints(stopping.workspace)


@pytest.mark.full
def test_a_killed_run_is_told_of_by_the_next_one(
    completed: dict[str, Any],
    stopping: Stopping,
    killed: Stopped,
    server: Server,
    task_runs: Callable[[str], list[TaskRun]],
) -> None:
    assert killed.code == -signal.SIGKILL
    assert killed.record is None
    ends = [record.end for record in run_records(stopping.workspace)]
    assert ends == ["completed", "interrupted", "interrupted", "killed", "completed"]
    assert flow_state(server, killed.id) == "CRASHED"
    states = {run.state for run in task_runs(killed.id)}
    assert "Crashed" in states
    assert states <= {"Completed", "Cached", "Crashed"}
    # What was over is as it was.
    assert flow_state(server, completed["run_id"]) == "COMPLETED"


STUBBORN = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mlc.store import ArtifactStore
from mlc.store.runs import recorded
from tasks.runtime.run import Run
from tasks.runtime.stopping import stopping

store = ArtifactStore(Path(sys.argv[1]))
with recorded(store.workspace, run_id="x", name="x", config={}) as journal, ThreadPoolExecutor() as pool:
    with stopping(Run(store, journal=journal)):
        pool.submit(time.sleep, 600)
        print("works", flush=True)
        # A signal in the moment before a sleep begins is heard when the sleep ends.
        while True:
            time.sleep(0.1)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_what_does_not_stop(number: signal.Signals, code: int, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": str(PROJECT), "PREFECT__FLOW_RUN_ID": "x"}
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        # Two that come together are one, as when a supervisor passes on what the whole group gets.
        process.send_signal(signal.SIGINT)
        process.send_signal(number)
        wait_for(lambda: process.poll() is not None or list(tmp_path.glob("runs/*.stop")))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(number)
        assert process.wait(SOON) == code
    assert [record.end for record in run_records(tmp_path)] == ["interrupted"]


UNHEARD = """
import sys, time
from pathlib import Path
from flows.terminal.lost import ending_with
from flows.terminal.server import Server, free_port, started_server
from mlc.store import ArtifactStore
from mlc.store.runs import recorded
from tasks.runtime.run import Run
from tasks.runtime.stopping import stopping

store = ArtifactStore(Path(sys.argv[1]))
with ending_with(Server(sys.argv[2], sys.argv[2] + "/api")):
    try:
        with recorded(store.workspace, run_id="x", name="x", config={}) as journal:
            with stopping(Run(store, journal=journal)):
                print("works", flush=True)
                time.sleep(600)
    except KeyboardInterrupt:
        # As Prefect does, to tell a server that is not there.
        time.sleep(600)
"""


def test_a_stopped_run_does_not_wait_for_a_server_that_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", UNHEARD, str(tmp_path), f"http://127.0.0.1:{free_port()}"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PREFECT__FLOW_RUN_ID": "x"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        # Nobody asks it to stop: the server may come back.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=SOON)
    assert process.returncode == 130
    assert "Stopped; what is finished is kept" in told
    assert [record.end for record in run_records(tmp_path)] == ["interrupted"]


@pytest.mark.full
def test_a_run_that_is_stopped_together_with_its_server_ends_as_soon(
    environment: dict[str, str], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    with (
        started_server(tmp_path, free_port()) as server,
        subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *RUN, str(workspace)],
            cwd=PROJECT,
            env={**environment, "PYTHONPATH": str(PROJECT), "PREFECT_API_URL": server.api},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as run,
    ):
        assert server.process is not None
        wait_for(lambda: run.poll() is not None or trains(workspace, 1))
        os.killpg(server.process.pid, signal.SIGKILL)
        run.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        _, told = run.communicate(timeout=SECONDS)
    assert run.returncode == 143
    assert time.monotonic() - asked < SOON
    assert "Traceback" not in told
    assert run_records(workspace)[0].end == "interrupted"
    assert checkpoints(workspace)
