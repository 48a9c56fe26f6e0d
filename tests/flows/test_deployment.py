"""prefect.yaml for real: deployed to a server, picked up by a process worker, run with parameters."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.terminal.server import Server
from tests.flows.runs import TaskRun
from tests.flows.smoked import PROJECT, RUN_SECONDS, Ended
from tests.forked import Forks

pytestmark = pytest.mark.slow


def prefect(forked: Forks, *arguments: str) -> Ended:
    return Ended(*forked.start(*arguments, cwd=PROJECT, command="prefect.cli:app").communicate(RUN_SECONDS))


def test_deployment_runs_on_a_process_worker(
    server: Server, forked: Forks, task_runs: Callable[[str], list[TaskRun]], tmp_path: Path
) -> None:
    assert prefect(forked, "work-pool", "create", "local", "--type", "process").code == 0
    deployed = prefect(forked, "--no-prompt", "deploy", "--all")
    assert deployed.code == 0, deployed.out + deployed.err

    found = httpx.post(f"{server.api}/deployments/filter", json={}, timeout=30).json()
    assert [deployment["name"] for deployment in found] == ["nightly"]
    assert [schedule["active"] for schedule in found[0]["schedules"]] == [False]
    assert set(found[0]["parameters"]) == {"config", "languages", "workspace"}

    parameters = {"config": "smoke", "languages": ["sw"], "workspace": str(tmp_path / "workspace")}
    started = prefect(forked, "deployment", "run", "align/nightly", "--params", json.dumps(parameters))
    assert started.code == 0, started.out + started.err
    # The worker ends when it has served the run.
    worker = prefect(forked, "worker", "start", "--pool", "local", "--type", "process", "--run-once")
    assert worker.code == 0, worker.out + worker.err

    runs = httpx.post(
        f"{server.api}/flow_runs/filter", json={"deployments": {"name": {"any_": ["nightly"]}}}, timeout=30
    ).json()
    assert [(run["name"], run["state"]["name"]) for run in runs] == [("align · smoke · swh", "Completed")]
    assert {run.stage for run in task_runs(runs[0]["id"])} >= {"translate", "align", "register", "promote"}
    assert list((tmp_path / "workspace" / "artifacts" / "report").glob("*/report.html"))
