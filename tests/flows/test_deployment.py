"""What a team does with it, by hand: deployed, a night, one more language, promoted, served, asked, rolled back."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from flows.promoting import promote_by_person, propose
from flows.scheduled.declared import DEPLOYMENTS
from flows.terminal.server import Server
from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tasks.runtime.artifacts import read_decision
from tasks.runtime.registry import PROMOTIONS_FILE, read_promotions
from tests.flows.runs import TaskRun, made, task_name
from tests.flows.scheduling import Asked, until, working
from tests.flows.smoked import PROJECT, RUN_SECONDS, Ended, Mlc, Smoked
from tests.forked import Forks

pytestmark = pytest.mark.slow

POOL = "nights"
MODEL = "multilingual-policy"


def prefect(forked: Forks, *arguments: str) -> Ended:
    return Ended(*forked.start(*arguments, cwd=PROJECT, command="prefect.cli:app").communicate(RUN_SECONDS))


@contextmanager
def served(workspace: Path, model: str) -> Iterator[str]:
    """A registered model behind HTTP, as `mlflow models serve` has it; its address."""
    import mlflow
    import uvicorn
    from mlflow.pyfunc.scoring_server import init

    for set_uri in (mlflow.set_tracking_uri, mlflow.set_registry_uri):
        set_uri(f"sqlite:///{workspace / 'mlflow' / 'mlflow.db'}")
    app = init(mlflow.pyfunc.load_model(f"models:/{model}@champion"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: serving.started, 30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/invocations"
        serving.should_exit = True
        thread.join()


def test_a_team_runs_it_from_prefect_alone(
    server: Server,
    environment: dict[str, str],
    mlc: Mlc,
    smoked: Smoked,
    task_runs: Callable[[str], list[TaskRun]],
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(smoked.one, workspace)
    options = ("--config", "smoke", "-l", "es", "--workspace", str(workspace), "--pool", POOL)
    first = mlc("deploy", *options, "--json")
    assert first.code == 0, first.err
    again = mlc("deploy", *options, "--json").result
    assert {one["change"] for one in again["deployments"]} == {"as it was"}
    told = [{**one, "change": "as it was"} for one in first.result["deployments"]]
    assert told == again["deployments"]
    assert [one["name"] for one in told] == [deployment.full_name for deployment in DEPLOYMENTS]
    assert not any(one["active"] for one in told)

    asked = Asked(server.api)
    with working(POOL, environment):
        night = asked.start("align/align-nightly")
        added = asked.start("add-language/add-language", language="French")
        # One at a time in a workspace: the second one waits in the queue, and holds no process.
        assert asked.ended(night)["name"] == "Completed"
        assert asked.ended(added)["name"] == "Completed"
        runs = {run: asked.get(f"flow_runs/{run}") for run in (night, added)}
        assert runs[night]["name"] == "align · smoke · spa"
        assert runs[added]["start_time"] >= runs[night]["end_time"]

        records = run_records(workspace)
        assert [record.id for record in records[-2:]] == [night, added]
        assert not [task for task in records[-2].tasks if task["state"] == "ran"]
        affected = {task_name(task) for task in records[-1].tasks if task["state"] == "ran"}
        assert affected == made(smoked.second.result)
        assert len(task_runs(added)) == len(affected)
        assert [task["stage"] for task in records[-1].tasks][-1] == "promote"

        store = ArtifactStore(workspace)
        decision = store.find("promote", records[-1].tasks[-1]["key"])
        assert decision
        gate = "passed" if read_decision(store, decision)["passed"] else "failed"
        assert propose(store, "2", force=True, reason="a look").gate == gate
        promote_by_person(store, "1", force=True, reason="the first one")
        wanted = asked.start("promote/promote", version="2", reason="better in French", force=True)
        asked.paused(wanted)
        asked.resume(wanted, approve=True)
        assert asked.ended(wanted)["name"] == "Completed"
        with served(workspace, MODEL) as address:
            answer = httpx.post(address, json={"dataframe_records": [{"prompt": "How do I bake bread?"}]}, timeout=60)
            assert answer.status_code == 200, answer.text
            assert answer.json()["predictions"]
        back = asked.start("rollback/rollback", reason="complaints")
        assert asked.ended(back)["name"] == "Completed"
    record = [(entry["version"], entry["by"]) for entry in read_promotions(workspace / PROMOTIONS_FILE, MODEL)]
    assert record[-3:] == [("1", "person"), ("2", "person"), ("1", "person")]
