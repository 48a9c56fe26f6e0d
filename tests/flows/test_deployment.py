"""prefect.yaml for real: deployed to a server, picked up by a process worker, run with parameters."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.terminal.server import Server
from tests.flows.smoked import PROJECT
from tests.flows.runs import TaskRun

pytestmark = pytest.mark.slow


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=PROJECT,
        env={**environment, "PWD": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_deployment_runs_on_a_process_worker(
    server: Server, environment: dict[str, str], task_runs: Callable[[str], list[TaskRun]], tmp_path: Path
) -> None:
    assert prefect(environment, "work-pool", "create", "local", "--type", "process").returncode == 0
    deployed = prefect(environment, "--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    found = httpx.post(f"{server.api}/deployments/filter", json={}, timeout=30).json()
    assert [deployment["name"] for deployment in found] == ["nightly"]
    assert [schedule["active"] for schedule in found[0]["schedules"]] == [False]
    assert set(found[0]["parameters"]) == {"config", "languages", "workspace"}

    parameters = {"config": "smoke", "languages": ["sw"], "workspace": str(tmp_path / "workspace")}
    started = prefect(environment, "deployment", "run", "align/nightly", "--params", json.dumps(parameters))
    assert started.returncode == 0, started.stdout + started.stderr
    # The worker ends when it has served the run.
    worker = prefect(environment, "worker", "start", "--pool", "local", "--type", "process", "--run-once")
    assert worker.returncode == 0, worker.stdout + worker.stderr

    runs = httpx.post(
        f"{server.api}/flow_runs/filter", json={"deployments": {"name": {"any_": ["nightly"]}}}, timeout=30
    ).json()
    assert [(run["name"], run["state"]["name"]) for run in runs] == [("align · smoke · swh", "Completed")]
    assert {run.stage for run in task_runs(runs[0]["id"])} >= {"translate", "align", "register", "promote"}
    assert list((tmp_path / "workspace" / "artifacts" / "report").glob("*/report.html"))
