"""General ability by the tasks of lm-evaluation-harness, where the extra ``harness`` is installed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlc.errors import UserError
from mlc.evaluation.results import Estimate
from mlc.evaluation.settings import RESAMPLES
from mlc.evaluation.skills import NO_LANGUAGE, Skill
from mlc.models.loading import Policy

_Z = 1.959963984540054
"""Of a normal interval of 95 %."""
_STDERR = "_stderr"
_DEFAULT_FILTER = "none"


def measure_tasks(
    policy: Policy, tasks: Sequence[str], *, batch_size: int = 16, limit: int | None = None
) -> list[Skill]:
    """Runs tasks of the harness on a model that is loaded already, without a chat template.

    Args:
        policy: The model.
        tasks: Names of tasks or groups, such as ``arc_easy``; their data come from the hub.
        batch_size: Requests in a forward pass.
        limit: Only so many questions a task; None for all.

    Raises:
        UserError: The harness does not know a task, or cannot load its data.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise UserError(f"The harness has no task {unknown[0]!r}: choose from what `lm_eval --tasks list` shows.")
    model = HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=batch_size)
    try:
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            limit=limit,
            log_samples=False,
            task_manager=manager,
            bootstrap_iters=RESAMPLES,
        )
    except (OSError, ValueError) as error:
        # Its words may quote a question.
        raise UserError(
            f"The tasks {', '.join(tasks)} of the harness cannot be run ({type(error).__name__}): check that their "
            "data can be loaded here."
        ) from None
    return skills_of(found)


def skills_of(results: Mapping[str, Any]) -> list[Skill]:
    """The figures of what the harness gives, each task's first, then those of groups.

    Intervals are normal ones from its standard errors; where it gives none, the ends are NaN.

    Args:
        results: From ``lm_eval.simple_evaluate``.
    """
    counts = results.get("n-samples", {})
    better = results.get("higher_is_better", {})
    found = []
    for task, own in results["results"].items():
        for key, value in own.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith(_STDERR) or not isinstance(value, int | float):
                continue
            name = f"{task} {metric}" + ("" if chosen == _DEFAULT_FILTER else f" ({chosen})")
            error = own.get(f"{metric}{_STDERR},{chosen}")
            half = _Z * error if isinstance(error, int | float) else math.nan
            asked = int(counts.get(task, {}).get("effective", 0) or own.get("sample_len", 0))
            estimate = Estimate(float(value), value - half, value + half, asked)
            found.append(Skill(name, NO_LANGUAGE, estimate, bool(better.get(task, {}).get(metric, True))))
    return found
