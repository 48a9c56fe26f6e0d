"""What a run would do, without Prefect and without loading a model."""

from pathlib import Path
from typing import Any

from flows.align_flow import pipeline
from flows.config import PipelineConfig
from mlc.store import ArtifactStore
from tasks.running import Run, running


def plan_run(config: PipelineConfig) -> list[dict[str, Any]]:
    """Walks through the pipeline and looks which artifacts are there.

    A task whose input is made anew counts as ``run``; if that input turns out the same as before, the run will find
    it cached after all.

    Returns:
        One entry a task: ``stage``, ``language``, ``subject``, ``action`` (``run`` or ``cached``), ``reason``.
    """
    run = Run(ArtifactStore(Path(config.workspace)), planning=True)
    with running(run):
        pipeline(config)
    told = ("stage", "language", "subject", "reason")
    return [{**{name: getattr(outcome, name) for name in told}, "action": outcome.state} for outcome in run.outcomes]
