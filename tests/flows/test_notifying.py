"""How a run ended is told to a real webhook on loopback, by Prefect's hooks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import httpx
import pytest
from prefect import flow as prefect_flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.worker import EventsWorker
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows import notifying
from flows.align_flow import align
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.scheduled.add_language import add_language
from flows.scheduled.evaluate_champion import evaluate_champion
from flows.terminal.server import Server
from mlc.errors import UserError
from mlc.store.runs import recorded, run_records
from tasks.runtime.run import Notes, shown_on
from tasks.runtime.settings import Ending, NotifySettings
from tests.flows.runs import Flow
from tests.flows.test_stopping import wait_for
from tests.flows.webhook import Webhook, listening


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notifying, "PAUSES", (0.0, 0.0))
    with listening() as there:
        yield there


def given(workspace: Path, url: str, **more: Any) -> dict[str, Any]:
    when = list(get_args(Ending))
    overrides = {"notify.url": url, "notify.when": when, **more}
    return load_config("smoke", workspace=str(workspace), overrides=overrides).model_dump(mode="json")


SUMMARY = {
    "number": 7,
    "metrics": {"models": {"base": {"english": {"selectivity": {"value": 0.5}}}}},
    "model_version": {"name": "multilingual-policy", "version": "3", "run_id": "abc"},
    "gate": {
        "passed": False,
        "policy": "strict",
        "reasons": ["selectivity fell"],
        "checks": [],
        "champion": "2",
        "waits": False,
    },
    "report": "/reports/report.html",
    "seconds": 12.5,
}


ID = uuid4()


def told(parameters: dict[str, Any], state: State[Any]) -> list[str]:
    """Runs the hooks of the flow; gives what a person is told."""
    notes = Notes()
    with shown_on(notes):
        for hook in align.on_failure_hooks:
            hook(align, FlowRun(id=ID, flow_id=ID, name="bold-fox", parameters=parameters), state)
    return notes.sentences


@pytest.mark.parametrize(
    ("state", "ending", "line"),
    [
        (Failed(message="It broke."), "failure", "mlc · smoke: align failed: It broke."),
        (Crashed(message="Exit code -9."), "failure", "mlc · smoke: align failed: Exit code -9."),
        (Cancelled(message="Asked."), "stopped", "mlc · smoke: align was stopped: Asked."),
        (
            Completed(name="Drifted", message="Worse: a figure.", data={"version": "3", "worse": ["a"], "below": []}),
            "drift",
            "mlc · smoke: align found something: Worse: a figure.",
        ),
        (Completed(data={"version": "3", "worse": [], "below": []}), "success", "mlc · smoke: align is done."),
        (
            Completed(data=SUMMARY),
            "gate",
            "mlc · smoke: run 7 is done; multilingual-policy version 3, gate strict failed.",
        ),
        (
            Completed(data=SUMMARY | {"gate": SUMMARY["gate"] | {"passed": True}}),
            "success",
            "mlc · smoke: run 7 is done; multilingual-policy version 3, gate strict passed.",
        ),
        (
            Completed(data=SUMMARY | {"gate": SUMMARY["gate"] | {"passed": True, "waits": True}}),
            "approval",
            "mlc · smoke: run 7 is done; multilingual-policy version 3, gate strict passed and waits for a person.",
        ),
    ],
)
def test_every_ending_is_told_once(
    flow: Flow, webhook: Webhook, tmp_path: Path, state: Any, ending: str, line: str
) -> None:
    parameters = {"config": given(tmp_path, webhook.url)}
    assert told(parameters, state) == told(parameters, state) == []
    (body,) = webhook.bodies
    assert (body["ending"], body["text"], body["workspace"]) == (ending, line, str(tmp_path))
    assert webhook.tokens == [None]


def test_a_run_that_a_worker_cancels_is_told_once_as_stopped(webhook: Webhook, tmp_path: Path) -> None:
    parameters = {"config": given(tmp_path, webhook.url)}
    with recorded(tmp_path, run_id=str(ID), name="smoke", config={}) as journal:
        journal.ask_to_stop()
    told(parameters, Crashed(message="Aborted by a signal."))
    told(parameters, Cancelled(message="Cancelled."))
    assert [(body["ending"], body["run"]) for body in webhook.bodies] == [("stopped", 1)]


def test_only_what_was_asked_for_is_told(flow: Flow, webhook: Webhook, tmp_path: Path) -> None:
    config = given(tmp_path, webhook.url) | {"notify": {"url": webhook.url, "when": ["gate"]}}
    told({"config": config}, Failed(message="It broke."))
    told({"config": config | {"notify": {"url": None}}}, Completed(data=SUMMARY))
    assert webhook.bodies == []
    told({"config": config}, Completed(data=SUMMARY))
    assert [body["links"] for body in webhook.bodies] == [webhook.bodies[0]["links"]]
    assert webhook.bodies[0]["links"]["report"] == "/reports/report.html"
    assert webhook.bodies[0]["figures"] == SUMMARY["metrics"]


def test_the_secrets_come_from_the_environment(
    webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", webhook.url)
    monkeypatch.setenv("MLC_NOTIFY_TOKEN", "secret")
    parameters = {"config": given(tmp_path, "${HOOK}")}
    told(parameters, Failed())
    assert webhook.tokens == ["Bearer secret"]
    assert webhook.url not in json.dumps(parameters)


@pytest.mark.parametrize(
    ("answers", "tries", "problem"), [([503, 429], 3, ""), ([500] * 3, 3, "500"), ([404], 1, "404")]
)
def test_it_is_tried_again_where_that_may_help(
    webhook: Webhook, tmp_path: Path, answers: list[int], tries: int, problem: str
) -> None:
    webhook.answers = list(answers)
    sentences = told({"config": given(tmp_path, webhook.url)}, Failed())
    assert len(webhook.bodies) == tries
    assert [f"(status {problem})" in sentence for sentence in sentences] == [True] * bool(problem)


def test_a_webhook_that_is_not_there_is_told_and_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "PAUSES", (0.0, 0.0))
    (sentence,) = told({"config": given(tmp_path, "http://127.0.0.1:9/hook")}, Failed())
    assert sentence == (
        "The webhook of 'notify.url' was not told how the run ended (ConnectError); the run is as it is."
    )
    (sentence,) = told({"config": given(tmp_path / "other", "${NO_SUCH_HOOK}")}, Failed())
    assert "'NO_SUCH_HOOK'" in sentence
    assert told({"config": "no-such.yaml"}, Failed()) == []


@pytest.mark.parametrize("url", ["ftp://example.org", "example.org/hook", "https://a:b@example.org"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"notify\.url"):
        given(tmp_path, url)


def test_prefect_calls_the_hook_of_the_flow(flow: Flow, webhook: Webhook, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        flow(tmp_path / "failed", notify__url=webhook.url, prompts__path="no-such-file.jsonl")
    (body,) = webhook.bodies
    assert body["ending"] == "failure"
    assert "no-such-file.jsonl" in body["reason"]
    assert (body["run"], body["figures"], body["gate"]) == (1, None, None)
    assert body["flow_run"] == run_records(tmp_path / "failed")[0].id
    assert body["links"]["prefect"].endswith(f"/runs/flow-run/{body['flow_run']}")


def gate_events(server: Server) -> list[dict[str, Any]]:
    EventsWorker.drain_all(timeout=20)
    filtering = {"filter": {"event": {"prefix": ["mlc.gate."]}}}
    found: list[dict[str, Any]] = httpx.post(f"{server.api}/events/filter", json=filtering, timeout=30).json()["events"]
    return found


def test_what_a_flow_gives_back_is_told_and_that_it_was_stopped(
    flow: Flow, server: Server, webhook: Webhook, tmp_path: Path
) -> None:
    settings = PipelineConfig.model_validate(given(tmp_path, webhook.url))
    hook = notifying.telling(lambda parameters: settings)

    @prefect_flow(on_completion=[hook], on_failure=[hook])
    def pretending(stopped: bool) -> Any:
        if stopped:
            notifying.tell_stopped(settings)
            return Cancelled()
        return SUMMARY

    assert pretending(False) == SUMMARY
    with pytest.raises(CancelledRun):
        pretending(True)
    assert [(body["ending"], body["run"]) for body in webhook.bodies] == [("gate", 7), ("stopped", None)]
    wait_for(lambda: any(webhook.bodies[0]["flow_run"] in json.dumps(event) for event in gate_events(server)))
    event = next(event for event in gate_events(server) if webhook.bodies[0]["flow_run"] in json.dumps(event))
    assert (event["event"], event["resource"]["prefect.resource.id"], event["payload"]) == (
        "mlc.gate.failed",
        "mlc.model.multilingual-policy",
        {"version": "3", "policy": "strict", "champion": "2"},
    )


def test_a_run_without_a_flow_run_is_told(webhook: Webhook, tmp_path: Path) -> None:
    settings = PipelineConfig.model_validate(given(tmp_path, webhook.url))
    notifying.tell_summary(settings, SUMMARY)
    notifying.tell_summary(settings.model_copy(update={"notify": NotifySettings()}), SUMMARY)
    (body,) = webhook.bodies
    assert (body["flow_run"], body["run"], body["links"]) == (None, 7, {"report": "/reports/report.html"})


@pytest.mark.parametrize("made_by", [align, add_language, evaluate_champion], ids=lambda flow: flow.name)
def test_every_flow_that_makes_a_model_tells_how_it_ended(made_by: Any, webhook: Webhook, tmp_path: Path) -> None:
    hooks = (
        made_by.on_completion_hooks,
        made_by.on_failure_hooks,
        made_by.on_crashed_hooks,
        made_by.on_cancellation_hooks,
    )
    ((hook,),) = {tuple(found) for found in hooks}
    parameters = {"config": given(tmp_path, webhook.url), "language": "hi"}
    hook(made_by, FlowRun(flow_id=uuid4(), name="killed", parameters=parameters), Crashed(message="Killed."))
    assert [(body["ending"], body["run"]) for body in webhook.bodies] == [("failure", None)]
