"""Tells a webhook how a run ended, and Prefect's automations what the gate decided. Prefect's hooks drive it.

So it is told of runs that were killed, too, wherever a worker of Prefect watched over them. What is told holds no
prompt and no answer, and changes nothing that a run makes.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.flows import FlowStateHook
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled
from prefect.utilities.urls import url_for

from flows.configuration.pipeline import PipelineConfig
from flows.showing import registry_server, version_page
from mlc.errors import UserError
from mlc.store.runs import RUNS_FOLDER, RunRecord, run_records
from mlc.urls import expanded
from tasks.runtime.run import harmless, using_display
from tasks.runtime.settings import Ending, NotifySettings

SECONDS = 10.0
"""How long a webhook has to answer."""
PAUSES = (1.0, 4.0)
"""Seconds before the second and the third try."""
LONGEST_REASON = 500
GATE_EVENT = "mlc.gate.{}"
"""What automations may wait for, ``mlc.gate.failed`` and ``mlc.gate.passed``."""
DRIFT_FACTS = ("worse", "below")
"""What :func:`flows.scheduled.evaluate_champion.evaluate_champion` found, if it found anything."""
_WORDS = {
    "approval": "is done",
    "drift": "found something",
    "failure": "failed",
    "gate": "is done",
    "stopped": "was stopped",
    "success": "is done",
}
_WITH_REASON = ("drift", "failure", "stopped")


class EndHooks(TypedDict):
    """The hooks of a flow for every state that it may end in."""

    on_completion: list[FlowStateHook[..., Any]]
    on_failure: list[FlowStateHook[..., Any]]
    on_crashed: list[FlowStateHook[..., Any]]
    on_cancellation: list[FlowStateHook[..., Any]]


def telling_every_end(settings_of: Callable[[Mapping[str, Any]], PipelineConfig]) -> EndHooks:
    """The hook of :func:`telling` for whatever state the runs of a flow end in, as its decorator takes them.

    Args:
        settings_of: As for :func:`telling`.
    """
    told = [telling(settings_of)]
    return EndHooks(on_completion=told, on_failure=told, on_crashed=told, on_cancellation=told)


def telling(settings_of: Callable[[Mapping[str, Any]], PipelineConfig]) -> FlowStateHook[..., Any]:
    """The hook that tells how a run of a flow ended.

    Args:
        settings_of: The configuration that the parameters of a flow run mean.
    """

    def tell_how_it_ended(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        try:
            settings = settings_of(flow_run.parameters)
        except UserError as error:
            flow_run_logger(flow_run, flow).warning("Nobody was told how this ended: %s", error)
            return
        _tell(settings, flow, flow_run, state)

    return tell_how_it_ended


def tell_stopped(settings: PipelineConfig) -> None:
    """Tells that the flow run that is at work here was asked to stop, for which Prefect has a hook in workers only.

    Args:
        settings: The configuration of the run.
    """
    context = FlowRunContext.get()
    if context is not None and context.flow is not None and context.flow_run is not None:
        harmless(_tell)(settings, context.flow, context.flow_run, Cancelled(message="It was asked to stop."))


def tell_summary(settings: PipelineConfig, summary: Mapping[str, Any]) -> None:
    """Tells of a run that has no flow run, because all was there.

    Args:
        settings: The configuration of the run.
        summary: The fields of :class:`flows.steps.summing_up.RunSummary`.
    """
    end = _End(_ending(None, summary, None), "align", summary)
    if settings.notify.url and end.ending in settings.notify.when:
        harmless(_send)(settings.notify, _body(settings, end))


@dataclass(frozen=True)
class _End:
    """How a flow run ended."""

    ending: Ending
    flow: str
    summary: Mapping[str, Any]
    """What the flow gave back; empty where it gave nothing."""
    reason: str = ""
    record: RunRecord | None = None
    id: str | None = None
    link: str | None = None

    @property
    def number(self) -> int | None:
        """Of the run in its workspace; None for a flow that makes no run, or where it did not come so far."""
        return self.summary.get("number") or (self.record.number if self.record else None)


def _tell(settings: PipelineConfig, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    result = harmless(state.result)(raise_on_failure=False) if state.is_completed() else None
    summary = result if isinstance(result, dict) else {}
    if gate := summary.get("gate"):
        harmless(_emit)(summary["model_version"], gate, flow_run)
    notify, workspace, id = settings.notify, Path(settings.workspace), str(flow_run.id)
    record = next((one for one in reversed(run_records(workspace)) if one.id == id), None)
    ending = _ending(state, summary, record)
    if not notify.url or ending not in notify.when or not _is_first(workspace, id, ending):
        return
    reason = (state.message or "")[:LONGEST_REASON] if ending in _WITH_REASON else ""
    end = _End(ending, flow.name, summary, reason, record, id, url_for(flow_run))
    if problem := _send(notify, _body(settings, end)):
        flow_run_logger(flow_run, flow).warning(problem)


def _ending(state: State[Any] | None, summary: Mapping[str, Any], record: RunRecord | None) -> Ending:
    if state is None or state.is_completed():
        if any(summary.get(name) for name in DRIFT_FACTS):
            return "drift"
        gate = summary.get("gate", {"passed": True})
        if not gate["passed"]:
            return "gate"
        return "approval" if gate.get("waits") else "success"
    # A run that a worker cancels is a crash for Prefect's engine, before the worker calls it cancelled.
    asked_to_stop = record is not None and record.end == "interrupted"
    return "stopped" if state.is_cancelled() or state.is_cancelling() or asked_to_stop else "failure"


def _is_first(workspace: Path, id: str, ending: str) -> bool:
    """Whether nobody was told this before: a run that is cancelled tells it, and so does the worker that ended it."""
    folder = workspace / RUNS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(folder / f"{id}.{ending}.told", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _body(settings: PipelineConfig, end: _End) -> dict[str, Any]:
    """What is sent: plain data without texts of prompts and answers; ``text`` is the line that chats show."""
    workspace, summary = Path(settings.workspace).absolute(), end.summary
    gate, version = summary.get("gate"), summary.get("model_version")
    server = registry_server(settings, workspace) if version else None
    page = version_page(server, version) if server and version else None
    links = {"prefect": end.link, "report": summary.get("report"), "mlflow": page}
    return {
        "text": _line(settings.name, end),
        "ending": end.ending,
        "reason": end.reason,
        "flow": end.flow,
        "name": settings.name,
        "workspace": str(workspace),
        "run": end.number,
        "flow_run": end.id,
        "languages": list(settings.languages),
        "model_version": version and {name: version[name] for name in ("name", "version")},
        "gate": gate and {name: gate[name] for name in ("passed", "policy", "champion", "reasons", "waits")},
        "figures": summary.get("metrics"),
        "seconds": summary.get("seconds"),
        "links": {name: where for name, where in links.items() if where},
    }


def _line(name: str, end: _End) -> str:
    told = f"mlc · {name}: {end.flow if end.number is None else f'run {end.number}'} {_WORDS[end.ending]}"
    if gate := end.summary.get("gate"):
        version, passed = end.summary["model_version"], "passed" if gate["passed"] else "failed"
        told += f"; {version['name']} version {version['version']}, gate {gate['policy']} {passed}"
        if gate.get("waits"):
            told += " and waits for a person"
    return f"{told}: {end.reason}" if end.reason else f"{told}."


def _emit(version: Mapping[str, str], gate: Mapping[str, Any], flow_run: FlowRun) -> None:
    emit_event(
        GATE_EVENT.format("passed" if gate["passed"] else "failed"),
        resource={"prefect.resource.id": f"mlc.model.{version['name']}", "prefect.resource.name": version["name"]},
        related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}],
        payload={"version": version["version"], "policy": gate["policy"], "champion": gate["champion"]},
    )


def _send(notify: NotifySettings, body: Mapping[str, Any]) -> str:
    """Posts a body, several times where that may help.

    Returns:
        Why it could not be told, in a sentence that is shown as well; empty if it was.
    """
    import httpx

    token = os.environ.get(notify.token_variable)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    problem = ""
    try:
        url = expanded(notify.url or "", "notify.url")
        for pause in (*PAUSES, None):
            try:
                status = httpx.post(url, json=body, headers=headers, timeout=SECONDS).status_code
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                status, problem = None, type(error).__name__
            if status is not None and status < 300:
                return ""
            problem = f"status {status}" if status else problem
            if pause is None or (status is not None and status < 500 and status not in (408, 425, 429)):
                break
            time.sleep(pause)
    except UserError as error:
        problem = str(error).rstrip(".")
    told = f"The webhook of 'notify.url' was not told how the run ended ({problem}); the run is as it is."
    using_display().note(told)
    return told
