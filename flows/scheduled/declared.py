"""The deployments: what a schedule, a form or a client of Prefect may start. This is the one place that lists them."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import Flow

from flows.align_flow import align
from flows.scheduled.add_language import add_language
from flows.scheduled.decisions import promote, rollback
from flows.scheduled.evaluate_champion import evaluate_champion
from mlc import pipeline

TAG = "mlc"
"""Of every deployment, and so of every flow run of theirs."""
HOURS = 20.0
"""Time limit of what computes, so that one night ends before the next one begins."""


@dataclass(frozen=True)
class Deployment:
    """A flow that can be started from Prefect."""

    name: str
    flow: Flow[..., Any]
    description: str
    cron: str | None = None
    """When it runs, in UTC; the schedule is off until a person switches it on."""
    computes: bool = True
    """Whether it waits until no other one that computes is at work in the workspace."""

    @property
    def full_name(self) -> str:
        """What Prefect's commands call it."""
        return f"{self.flow.name}/{self.name}"

    @property
    def entrypoint(self) -> str:
        """Where a worker imports the flow from, in a checkout as in an installed wheel."""
        return f"{pipeline.__name__}.{self.flow.fn.__name__}"

    def parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some values that the flow takes."""
        return {name: given[name] for name in inspect.signature(self.flow.fn).parameters if name in given}


DEPLOYMENTS = (
    Deployment(
        "align-nightly",
        align,
        "English prompts in, a registered and judged multilingual model out. What is there is not made again.",
        cron="0 2 * * *",
    ),
    Deployment(
        "add-language",
        add_language,
        "The nightly run with one more language: only what depends on that language runs.",
    ),
    Deployment(
        "evaluate-champion",
        evaluate_champion,
        "The live champion by today's prompts and judges, beside what it was measured with when it was registered.",
        cron="0 6 * * 1",
    ),
    Deployment(
        "promote",
        promote,
        "A version becomes champion, once somebody has approved of it in the page of its flow run.",
        computes=False,
    ),
    Deployment("rollback", rollback, "The champion before becomes champion again, at once.", computes=False),
)
