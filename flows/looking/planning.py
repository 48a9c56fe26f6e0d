"""What the configuration of a run would do now, as `mlc plan` tells it in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.drafts import open_private
from mlc.store.runs import RunRecord

SECONDS = 300.0
"""How long a plan may take."""
_MLC = "from mlc.pipeline import main; main()"
_PLANNING = Lock()
"""One plan at a time: each loads what a run loads."""


@dataclass(frozen=True)
class PlannedStage:
    """What one stage would do."""

    stage: str
    tasks: tuple[Mapping[str, Any], ...]
    """Those that would run, see :func:`flows.commands.plan.planned_task`."""
    cached: int
    """How many would not."""

    @property
    def rows(self) -> int:
        """Rows that are new, of the tasks that have rows."""
        return sum(task["rows_new"] or 0 for task in self.tasks)

    @property
    def seconds(self) -> float | None:
        """What past runs took for such work; None without experience."""
        known = [task["seconds_estimated"] for task in self.tasks if task["seconds_estimated"] is not None]
        return sum(known) if known else None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why its tasks would run, each reason once."""
        return tuple(dict.fromkeys(task["reason"] for task in self.tasks))


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    stages: tuple[PlannedStage, ...]
    """In the order in which a run comes to them."""
    notes: tuple[str, ...]
    """What a person should know, in sentences."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Plan":
        """A plan as ``mlc plan --json`` prints it."""
        return cls(planned_stages(told["tasks"]), tuple(told["notes"]))

    @property
    def running(self) -> int:
        """How many tasks would run."""
        return sum(len(stage.tasks) for stage in self.stages)

    @property
    def cached(self) -> int:
        """How many would not."""
        return sum(stage.cached for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """As of a stage."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if known else None


def planned_stages(planned: Sequence[Mapping[str, Any]]) -> tuple[PlannedStage, ...]:
    """The tasks of a plan by stage, in the order in which a run comes to them.

    Args:
        planned: See :func:`flows.commands.plan.planned_task`.
    """
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for task in planned:
        stages.setdefault(task["stage"], []).append(task)
    return tuple(_stage(stage, tasks) for stage, tasks in stages.items())


def _stage(stage: str, tasks: Sequence[Mapping[str, Any]]) -> PlannedStage:
    running = tuple(task for task in tasks if task["action"] == "run")
    return PlannedStage(stage, running, len(tasks) - len(running))


def plan_again(store: ArtifactStore, record: RunRecord) -> Plan:
    """What a run with the configuration of an earlier one would do now, in this workspace; nothing is written there.

    Args:
        store: The workspace.
        record: The earlier run.

    Raises:
        UserError: The configuration is one of another release or cannot be planned, or another plan is being made.
    """
    from flows.configuration.reading import known_values

    values, dropped = known_values(record.config)
    if not _PLANNING.acquire(blocking=False):
        raise UserError("A plan is being made: ask again when it is done.")
    try:
        with tempfile.TemporaryDirectory(prefix="mlc-plan-") as folder:
            config = Path(folder) / "config.json"
            with open_private(config) as handle:
                json.dump(values, handle)
            words = ("plan", str(config), "--workspace", str(store.workspace.resolve()), "--json")
            ended = subprocess.run(
                [sys.executable, "-c", _MLC, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise UserError(f"The plan took more than {SECONDS / 60:.0f} minutes and was given up.") from None
    finally:
        _PLANNING.release()
    if ended.returncode:
        # An error of the command is one sentence, which quotes no prompt.
        said = " ".join(ended.stderr.strip().splitlines()[-1:])
        raise UserError(f"Run {record.number} cannot be planned again: {said.removeprefix('mlc: ')}")
    plan = Plan.of(json.loads(ended.stdout.splitlines()[-1]))
    return replace(plan, notes=(without_keys(record, dropped), *plan.notes)) if dropped else plan


def without_keys(record: RunRecord, dropped: Sequence[str]) -> str:
    """Says which keys of a recorded configuration this release no longer knows.

    Args:
        record: The run.
        dropped: From :func:`flows.configuration.reading.known_values`, at least one.
    """
    keys, these = ("keys", "them") if len(dropped) > 1 else ("key", "it")
    return (
        f"The configuration of run {record.number} is taken without the {keys} {', '.join(dropped)}: this release does "
        f"not know {these}."
    )
