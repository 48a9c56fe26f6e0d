"""The real flow in this process, on the session's server: for tests that run it many times."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.config import load_config

Summary = dict[str, Any]
Flow = Callable[..., Summary]


def task_name(task: dict[str, Any]) -> str:
    """Stage, subject and language of a task."""
    return " · ".join(text for text in (task["stage"], task["subject"], task["language"]) if text)


def made(summary: Summary) -> set[str]:
    """What a run did not find."""
    return {task_name(task) for task in summary["tasks"] if task["state"] == "ran"}


@contextmanager
def flow_on(api: str, name: str = "smoke") -> Iterator[Flow]:
    """Gives a function that runs the flow, by a shipped configuration, and returns its summary."""
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.align_flow import align

    def run(workspace: Path, languages: str | None = "es,fr", **settings: Any) -> Summary:
        overrides = {name.replace("__", "."): value for name, value in settings.items()}
        config = load_config(
            name, languages=[languages] if languages else None, workspace=str(workspace), overrides=overrides
        )
        summary: Summary = align(config.model_dump(mode="json"))
        return summary

    with temporary_settings({PREFECT_API_URL: api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield run
