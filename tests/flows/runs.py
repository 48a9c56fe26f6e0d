"""The real flow in this process, on a server, for tests that run it many times; and what that server says of runs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from flows.commands.plan import foresee, planned_task
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config

Summary = dict[str, Any]
Flow = Callable[..., Summary]
RECORD_SECONDS = 30
PAGE = 100
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def task_name(task: dict[str, Any]) -> str:
    """Stage, subject and language of a task."""
    return " · ".join(text for text in (task["stage"], task["subject"], task["language"]) if text)


def made(summary: Summary) -> set[str]:
    """What a run did not find."""
    return {task_name(task) for task in summary["tasks"] if task["state"] == "ran"}


def plan_run(config: PipelineConfig) -> list[dict[str, Any]]:
    """What a run would do, a task an entry, see :func:`flows.commands.plan.planned_task`."""
    return [planned_task(outcome) for outcome in foresee(config).outcomes]


def planned_keys(config: PipelineConfig) -> dict[str, str]:
    """The key of every task of a plan, by its name."""
    outcomes = map(asdict, foresee(config).outcomes)
    return {task_name(outcome): outcome["key"] for outcome in outcomes}


@contextmanager
def flow_on(api: str, name: str = "smoke") -> Iterator[Flow]:
    """Gives a function that runs the flow, by a shipped configuration, and returns its summary."""
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.align_flow import align
    from flows.commands.run import hand_over

    def run(workspace: Path, languages: str | None = "es,fr", **settings: Any) -> Summary:
        overrides = {name.replace("__", "."): value for name, value in settings.items()}
        config = load_config(
            name, languages=[languages] if languages else None, workspace=str(workspace), overrides=overrides
        )
        summary: Summary = align(config.model_dump(mode="json"))
        return summary

    with temporary_settings({PREFECT_API_URL: api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        try:
            yield run
        finally:
            # What is left for a server that is gone holds up the end of the process.
            hand_over()


@dataclass(frozen=True)
class TaskRun:
    """A task run, as the Prefect API tells it."""

    name: str
    stage: str
    state: str


def recorded_task_runs(api: str, run_id: str) -> list[TaskRun]:
    """Task runs of a flow run, once the server has recorded how each ended."""
    # The server records what it is told some time after it has been told.
    deadline = time.monotonic() + RECORD_SECONDS
    rows, before = _task_rows(api, run_id), -1
    while time.monotonic() < deadline and not (len(rows) == before and all(map(_ended, rows))):
        time.sleep(0.5)
        before, rows = len(rows), _task_rows(api, run_id)
    # The name of a run begins with its stage.
    return [TaskRun(row["name"], row["name"].split(" · ")[0], row["state"]["name"]) for row in rows]


def cached_rows(api: str, run_id: str) -> list[dict[str, str]]:
    """What Prefect's page of a flow run shows as cached; none if nothing was."""
    asked = {"flow_runs": {"id": {"any_": [run_id]}}, "artifacts": {"key": {"any_": ["cached"]}}}
    reply = httpx.post(f"{api}/artifacts/filter", json=asked, timeout=30)
    reply.raise_for_status()
    tables = [json.loads(row["data"]) for row in reply.json()]
    assert len(tables) <= 1
    return [row for table in tables for row in table]


def _ended(row: dict[str, Any]) -> bool:
    return row["state"] is not None and row["state"]["type"] in OVER


def _task_rows(api: str, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = httpx.post(
            f"{api}/task_runs/filter",
            json={"flow_runs": {"id": {"any_": [run_id]}}, "offset": len(found), "limit": PAGE},
            timeout=30,
        )
        page.raise_for_status()
        rows = page.json()
        found += rows
        if len(rows) < PAGE:
            return found


def flow_states(api: str) -> dict[str, str]:
    """Type of the state of every flow run that a server knows, by id; empty for one without a state."""
    reply = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": PAGE}, timeout=30)
    reply.raise_for_status()
    return {row["id"]: (row["state"] or {}).get("type", "") for row in reply.json()}
