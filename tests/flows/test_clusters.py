"""Stages on workers of Dask and Ray: the keys and artifacts of threads, also after a worker was killed."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.terminal.server import free_port
from mlc.store.runs import run_records
from tests.faults.test_kills import contents
from tests.faults.test_pipeline import children
from tests.flows.runs import Flow, TaskRun, task_name
from tests.flows.smoked import PROJECT, Smoked
from tests.flows.test_processes import lines, worker_of
from tests.flows.test_stopping import STEPS, checkpoints, trains, wait_for
from tests.forked import Forked, Forks

pytestmark = pytest.mark.slow

SECONDS = 600
SCHEDULER, WORKER = "distributed.cli.dask_scheduler:main", "distributed.cli.dask_worker:main"
RUN = ("run", "smoke", "--languages", "es", "--json")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dask_cluster(forked: Forks, folder: Path) -> Iterator[tuple[str, list[Forked]]]:
    """A scheduler on loopback and two workers, in processes that any machine could have started."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    started = [
        forked.start("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", command=SCHEDULER, cwd=folder)
    ]
    try:
        wait_for(lambda: answers(port))
        alone = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        started += [forked.start(address, *alone, command=WORKER, cwd=folder) for _ in range(2)]
        yield address, started[1:]
    finally:
        for process in reversed(started):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(SECONDS)


def test_a_worker_of_a_cluster_at_an_address_is_killed_and_another_one_goes_on(
    forked: Forks, smoked: Smoked, task_runs: Callable[[str], list[TaskRun]], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    with dask_cluster(forked, tmp_path) as (address, workers):
        where = f"runner={{name: dask, address: '{address}'}}"
        run = forked.start(*RUN, "--set", where, "--workspace", str(workspace), cwd=PROJECT)
        killed = worker_of(workspace, "align")
        os.kill(killed, signal.SIGKILL)
        code, out, told = run.communicate(SECONDS)
        left = [worker.pid for worker in workers if worker.poll() is None]
    assert code == 0, told[-3000:]
    assert "Traceback" not in told
    assert contents(workspace) == contents(smoked.one)
    # The cluster is left as it was, but for the one that was killed.
    assert {killed, *left} == {worker.pid for worker in workers}
    summary = json.loads(out)
    names = Counter(map(task_name, summary["tasks"]))
    assert set(names.values()) == {1}
    written = [line for line in lines(workspace, 1) if "by" in line]
    begun = Counter(line["starting"]["label"] for line in written if "starting" in line)
    assert {label.split(" · ")[0] for label, times in begun.items() if times == 2} == {"align"}
    assert {line["by"].rpartition(":")[2] for line in written} == {str(worker.pid) for worker in workers}
    assert {run.state for run in task_runs(summary["run_id"])} <= {"Completed", "Cached"}
    assert len(task_runs(summary["run_id"])) == len(names)


@dataclass(frozen=True)
class Local:
    """A run that starts and stops its own cluster."""

    engine: str
    workspace: Path
    process: "subprocess.Popen[str]"

    def below(self) -> list[int]:
        """Processes that it has started, and those which these have."""
        return children(self.process.pid)

    def ended(self) -> tuple[int, str, str]:
        """Exit code and what it said."""
        out, told = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, told


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(params=["dask", "ray"])
def local(
    request: pytest.FixtureRequest, environment: dict[str, str], smoked: Smoked, tmp_path: Path
) -> Iterator[Local]:
    """A run that trains longer than that of the shared workspace, and so makes what comes from there on."""
    engine, workspace = request.param, Path(shutil.copytree(smoked.one, tmp_path / "workspace"))
    if importlib.util.find_spec(f"prefect_{engine}") is None:
        pytest.skip(f"prefect-{engine}, which is not installed")
    more = ("--set", f"runner={engine}", "--set", f"align.steps={STEPS}", "--workspace", str(workspace))
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *RUN, *more],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        run = Local(engine, workspace, process)
        try:
            wait_for(lambda: process.poll() is not None or trains(workspace, 2))
            assert process.poll() is None, process.communicate()[1][-3000:]
            yield run
        finally:
            process.kill()


@pytest.mark.full
def test_a_worker_of_a_local_cluster_is_killed_and_the_run_goes_on(
    local: Local, flow: Flow, smoked: Smoked, tmp_path: Path
) -> None:
    below = local.below()
    os.kill(worker_of(local.workspace, "align", 2), signal.SIGKILL)
    code, _, told = local.ended()
    assert code == 0, told[-3000:]
    wait_for(lambda: not any(map(alive, below)))
    shutil.copytree(smoked.one, tmp_path / "threads")
    flow(tmp_path / "threads", "es", align__steps=STEPS)
    assert contents(local.workspace) == contents(tmp_path / "threads")


@pytest.mark.full
@pytest.mark.parametrize("to", ["the flow", "the group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_with_a_local_cluster_stops_in_order(local: Local, number: signal.Signals, to: str) -> None:
    below = local.below()
    if to == "the group":
        os.killpg(local.process.pid, number)
    else:
        local.process.send_signal(number)
    code, _, told = local.ended()
    assert code == 128 + number, told[-3000:]
    assert told.rstrip().endswith("Stopped; what is finished is kept, and the next run goes on from there.")
    assert run_records(local.workspace)[-1].end == "interrupted"
    assert checkpoints(local.workspace)
    wait_for(lambda: not any(map(alive, below)))


@pytest.mark.full
def test_nothing_is_left_of_a_local_cluster_whose_run_is_killed(local: Local) -> None:
    below = local.below()
    assert len(below) >= 2
    local.process.kill()
    wait_for(lambda: not any(map(alive, below)))
