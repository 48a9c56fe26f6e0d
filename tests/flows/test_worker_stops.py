"""A run of a Prefect worker is cancelled from Prefect as by a signal; one that is killed is found by the next run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.scheduled.declared import DEPLOYMENTS
from flows.terminal.server import Server
from mlc.store.locks import LOCK_FILE, lock_if_free
from mlc.store.runs import run_records
from tests.faults.test_pipeline import children
from tests.flows.runs import TaskRun
from tests.flows.smoked import PROJECT, RUN_SECONDS, Ended, Mlc
from tests.flows.test_stopping import checkpoints, flow_state, trains, wait_for
from tests.flows.webhook import listening
from tests.forked import Forks

pytestmark = [pytest.mark.slow, pytest.mark.full]

POOL = "stopping"
ENTRYPOINT = DEPLOYMENTS[0].entrypoint


def prefect(forked: Forks, *arguments: str) -> Ended:
    return Ended(*forked.start(*arguments, cwd=PROJECT, command="prefect.cli:app").communicate(RUN_SECONDS))


@pytest.fixture(scope="module")
def deployed(forked: Forks) -> None:
    assert prefect(forked, "work-pool", "create", POOL, "--type", "process").code == 0
    # Of another name than those that other tests have on the same server.
    told = prefect(forked, "--no-prompt", "deploy", ENTRYPOINT, "--name", POOL, "--pool", POOL)
    assert told.code == 0, told.out + told.err


@contextmanager
def training(
    environment: dict[str, str], forked: Forks, workspace: Path, **more: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker whose run trains; in the end it is killed, with all processes below it."""
    config = workspace.parent / "long.yaml"
    smoke = (PROJECT / "flows" / "configs" / "smoke.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(smoke.replace("steps: 3", "steps: 100000")) | more
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    parameters = {"config": str(config), "languages": ["sw"], "workspace": str(workspace)}
    started = prefect(forked, "deployment", "run", "align/stopping", "--params", json.dumps(parameters))
    assert started.code == 0, started.out + started.err
    with subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
        cwd=PROJECT,
        env={**environment, "PWD": str(PROJECT), "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        below: list[int] = []
        try:
            wait_for(lambda: worker.poll() is not None or trains(workspace, 1))
            assert worker.poll() is None
            below = children(worker.pid)
            yield worker
        finally:
            for process in (*below, worker.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def test_a_cancelled_run_of_a_worker_stops_in_order(
    deployed: None,
    environment: dict[str, str],
    forked: Forks,
    server: Server,
    task_runs: Callable[[str], list[TaskRun]],
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "workspace"
    with listening() as webhook, training(environment, forked, workspace, notify={"url": webhook.url}):
        run_id = run_records(workspace)[0].id
        time.sleep(1)
        assert prefect(forked, "flow-run", "cancel", run_id).code == 0
        wait_for(lambda: run_records(workspace)[0].end)
        wait_for(lambda: flow_state(server, run_id) == "CANCELLED")
        time.sleep(1)
    assert [(body["ending"], body["run"]) for body in webhook.bodies] == [("stopped", 1)]
    assert run_records(workspace)[0].end == "interrupted"
    assert checkpoints(workspace)
    states = {run.state for run in task_runs(run_id)}
    assert "Cancelled" in states
    assert states <= {"Completed", "Cached", "Cancelled"}


def test_a_run_that_was_killed_with_its_worker_is_marked_by_the_next_one(
    deployed: None,
    environment: dict[str, str],
    forked: Forks,
    server: Server,
    task_runs: Callable[[str], list[TaskRun]],
    mlc: Mlc,
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "workspace"
    with training(environment, forked, workspace):
        run_id = run_records(workspace)[0].id
    wait_for(lambda: not _held(workspace))
    assert flow_state(server, run_id) == "RUNNING"
    ended = mlc("run", "smoke", "--languages", "sw", "--workspace", str(workspace), "--json")
    assert ended.code == 0, ended.err[-3000:]
    assert [record.end for record in run_records(workspace)] == ["killed", "completed"]
    assert flow_state(server, run_id) == "CRASHED"
    assert {run.state for run in task_runs(run_id)} <= {"Completed", "Crashed"}


def test_a_run_that_was_killed_alone_is_told_by_its_worker(
    deployed: None, environment: dict[str, str], forked: Forks, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    with listening() as webhook, training(environment, forked, workspace, notify={"url": webhook.url}) as worker:
        for process in children(worker.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_for(lambda: webhook.bodies)
    assert [(body["ending"], body["flow_run"]) for body in webhook.bodies] == [
        ("failure", run_records(workspace)[0].id),
    ]
    assert "SIGKILL" in webhook.bodies[0]["reason"]


def _held(workspace: Path) -> bool:
    with lock_if_free(workspace / LOCK_FILE) as free:
        return not free


def test_a_run_outlives_a_worker_that_is_killed_alone(
    deployed: None, environment: dict[str, str], forked: Forks, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    with training(environment, forked, workspace) as worker:
        worker.kill()
        worker.wait()
        time.sleep(3)
        assert _held(workspace)
        assert run_records(workspace)[0].end is None
