"""What a team does with it, by hand: deployed, a night, one more language, promoted, served, asked, rolled back."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import Flow, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.configuration.reading import load_config
from flows.promoting import promote_by_person, propose, roll_back
from flows.scheduled.decisions import promote, rollback
from flows.scheduled.declared import DEPLOYMENTS
from flows.scheduled.evaluate_champion import evaluate_champion
from flows.scheduled.registering import Target, deploy
from flows.terminal.server import Server
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tasks.runtime.artifacts import read_decision
from tasks.runtime.registry.promotions import PROMOTIONS_FILE, read_promotions
from tests.flows.runs import TaskRun, made, task_name
from tests.flows.scheduling import Asked, insisting, until, working
from tests.flows.smoked import Mlc, Smoked

pytestmark = pytest.mark.slow

POOL = "nights"
MODEL = "multilingual-policy"


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
    with working(POOL, environment) as killed:
        night = asked.start("align/align-nightly")
        added = asked.start("add-language/add-language", language="French")
        until(lambda: asked.state(night)["type"] == "RUNNING")
        killed.kill()
        killed.wait()
    with working(POOL, environment):
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
    assert worked_on(promote, wanted) is None
    asked.resume(wanted, approve=True)
    assert ended_as(worked_on(promote, wanted)) == "Completed"
    with served(workspace, MODEL) as address:
        answer = httpx.post(address, json={"dataframe_records": [{"prompt": "How do I bake bread?"}]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"]
    back = asked.start("rollback/rollback", reason="complaints")
    assert ended_as(worked_on(rollback, back)) == "Completed"
    record = [(entry["version"], entry["by"]) for entry in read_promotions(workspace / PROMOTIONS_FILE, MODEL)]
    assert record[-3:] == [("1", "person"), ("2", "person"), ("1", "person")]


@pytest.fixture(scope="module", autouse=True)
def asking(server: Server) -> Iterator[None]:
    """The server, for what runs in this process."""
    with temporary_settings({PREFECT_API_URL: server.api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="module")
def registered(smoked: Smoked, asking: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two versions, the first of them champion, whose deployments are on the server."""
    workspace = tmp_path_factory.mktemp("decisions") / "workspace"
    shutil.copytree(smoked.two, workspace)
    deploy(target(workspace))
    promote_by_person(ArtifactStore(workspace), "1", force=True, reason="the first one")
    return workspace


def target(workspace: Path, **more: Any) -> Target:
    parameters = {"config": "smoke", "languages": ["es"], "workspace": str(workspace), "hours": 1.0}
    return Target(
        **{
            "parameters": parameters,
            "pool": POOL,
            "pool_type": "process",
            "folder": Path.cwd(),
            "workspace": str(workspace),
            **more,
        }
    )


def worked_on(flow: Flow[..., Any], run: str) -> State[Any] | None:
    """What a worker does with a flow run, in this process; None where the run is suspended."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run))
    with suppress(Pause):
        state: State[Any] = run_flow(flow, flow_run=found, parameters=found.parameters, return_type="state")
        return state
    return None


def ended_as(state: State[Any] | None) -> str | None:
    return state and state.name


def champion_of(workspace: Path) -> str:
    return str(read_promotions(workspace / PROMOTIONS_FILE, MODEL)[-1]["version"])


def test_a_promotion_that_nobody_approves_is_none(server: Server, registered: Path) -> None:
    asked = Asked(server.api)
    run = asked.start("promote/promote", version="2", reason="better", force=True, workspace=str(registered))
    assert worked_on(promote, run) is None
    assert asked.state(run)["name"] == "Suspended"
    told = "".join(str(kept["value"]) for kept in asked.post(f"flow_runs/{run}/input/filter", prefix="", limit=10))
    assert "Version 1 is champion now. Reason: better" in told
    asked.resume(run)
    ended = worked_on(promote, run)
    assert ended is not None
    assert (ended.name, ended.message) == ("Cancelled", "Not approved: the champion stays what it was.")
    assert champion_of(registered) == "1"


@pytest.mark.full
def test_a_worker_takes_up_a_promotion_that_was_approved(
    server: Server, environment: dict[str, str], registered: Path
) -> None:
    asked, place = Asked(server.api), {"workspace": str(registered)}
    deploy(target(registered))
    with working(POOL, environment):
        run = asked.start("promote/promote", version="2", reason="better", force=True, **place)
        asked.paused(run)
        asked.resume(run, approve=True)
        assert asked.ended(run)["name"] == "Completed"
        assert champion_of(registered) == "2"
        back = asked.start("rollback/rollback", reason="so that the first one is live", **place)
        assert asked.ended(back)["name"] == "Completed"
    assert champion_of(registered) == "1"


def test_an_approval_counts_for_the_champion_that_was_shown_alone(server: Server, registered: Path) -> None:
    asked, store = Asked(server.api), ArtifactStore(registered)
    run = asked.start("promote/promote", version="1", reason="back", force=True, workspace=str(registered))
    assert worked_on(promote, run) is None
    time.sleep(1)
    promote_by_person(store, "2", force=True, reason="meanwhile")
    asked.resume(run, approve=True)
    ended = worked_on(promote, run)
    assert ended is not None
    assert ended.is_failed()
    assert "changed to version 2 while this waited" in str(ended.message)
    assert champion_of(registered) == "2"


@pytest.mark.parametrize("deployment", ["promote/promote", "rollback/rollback"])
def test_a_form_asks_for_a_reason(server: Server, registered: Path, deployment: str) -> None:
    version = {"version": "2"} if deployment.startswith("promote") else {}
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        Asked(server.api).start(deployment, reason="", **version)


def test_what_a_person_made_of_a_deployment_stays(server: Server, registered: Path) -> None:
    asked = Asked(server.api)
    night = asked.get("deployments/name/align/align-nightly")
    own = {"schedule": {"cron": "30 3 * * 1-5", "timezone": "Europe/Madrid"}, "active": True}
    (schedule,) = night["schedules"]
    insisting("PATCH", f"{asked.api}/deployments/{night['id']}/schedules/{schedule['id']}", json=own)
    told = {one.name: one for one in deploy(target(registered))}
    assert {one.change for one in told.values()} == {"as it was"}
    assert (told["align/align-nightly"].cron, told["align/align-nightly"].active) == ("30 3 * * 1-5", True)
    changed = deploy(target(registered, parameters={"workspace": "elsewhere"}, scheduled=False))
    assert {one.change for one in changed} == {"changed"}
    assert not any(one.active for one in changed)
    assert asked.get("deployments/name/rollback/rollback")["parameters"] == {"workspace": "elsewhere"}


def test_mistakes_in_a_pool_are_told(server: Server, registered: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there with the type 'process', and 'docker' was asked"):
        deploy(target(registered, pool_type="docker"))
    with pytest.raises(UserError, match="type 'no-such-type' is not known here"):
        deploy(target(registered, pool="another", pool_type="no-such-type"))
    variables = {"type": "object", "properties": {"image": {"type": "string"}}}
    template = {"job_configuration": {"image": "{{ image }}"}, "variables": variables}
    found = deploy(target(registered, pool="images", pool_type="no-such-type", template=template))
    asked = Asked(server.api)
    assert asked.get("work_pools/images")["base_job_template"] == template
    # Its workers see no folder of this machine.
    assert not asked.get(f"deployments/{found[0].id}")["pull_steps"]


def test_the_champion_is_measured_again(server: Server, registered: Path) -> None:
    def measured(**settings: Any) -> dict[str, Any]:
        config = load_config("smoke", languages=["es"], workspace=str(registered), overrides=settings)
        found: dict[str, Any] = evaluate_champion(config.model_dump(mode="json"))
        return found

    roll_back(ArtifactStore(registered), reason="so that the first one is live")
    records = len(run_records(registered))
    same = measured()
    assert {name: same[name] for name in ("version", "changed", "notes", "worse", "below")} == {
        "version": "1",
        "changed": [],
        "notes": [],
        "worse": [],
        "below": [],
    }
    other = measured(**{"evaluation.judges": ["openings"]})
    assert {"configuration judges.openings is new", "configuration judges.rules is gone"} <= set(other["changed"])
    # What commands take for the last run stays that.
    assert len(run_records(registered)) == records
    artifacts = Asked(server.api).post("artifacts/filter", artifacts={"key": {"any_": ["drift", "champion-today"]}})
    assert {one["key"] for one in artifacts} == {"drift", "champion-today"}
    assert any("Nothing that decides its figures has changed" in str(one["data"]) for one in artifacts)
    (last, *_) = Asked(server.api).post("flow_runs/filter", flows={"name": {"any_": ["evaluate-champion"]}})
    assert {"configuration: smoke", "language: Spanish"} <= set(last["tags"])
