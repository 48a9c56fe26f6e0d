"""What models can do beside refusing: figures of any measure, by language, in one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlc.evaluation.results import Estimate

BITS, CHOICE = "bits per character", "right choices"
"""Measures that are built in."""
NO_LANGUAGE = ""
"""Of a measure that is of no one language, or whose name tells it."""


@dataclass(frozen=True)
class Skill:
    """One figure of one model."""

    measure: str
    """What was measured, such as :data:`BITS`, or the task and the metric of a harness."""
    language: str
    """NLLB code, or :data:`NO_LANGUAGE`."""
    estimate: Estimate
    """Ends that nothing tells are NaN."""
    higher_is_better: bool


Skills = Mapping[str, Sequence[Skill]]
"""By what the model is called."""


def plain_skills(skills: Skills) -> list[dict[str, Any]]:
    """All figures as plain data, a row each, by measure and language; NaN stays."""
    return [
        {
            "measure": skill.measure,
            "language": skill.language or None,
            "model": model,
            **asdict(skill.estimate),
            "higher_is_better": skill.higher_is_better,
        }
        for model, own in skills.items()
        for skill in own
    ]


def read_skills(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Skill]]:
    """What :func:`plain_skills` gave, perhaps through JSON."""
    found: dict[str, list[Skill]] = {}
    for row in rows:
        value, low, high = (math.nan if row[name] is None else float(row[name]) for name in ("value", "low", "high"))
        estimate = Estimate(value, low, high, int(row["n"]))
        skill = Skill(row["measure"], row["language"] or NO_LANGUAGE, estimate, bool(row["higher_is_better"]))
        found.setdefault(row["model"], []).append(skill)
    return found


def lines_of(skills: Skills) -> list[tuple[str, str, bool]]:
    """The lines of a table: measure, language and whether higher is better, each once, in their order."""
    every = (skill for own in skills.values() for skill in own)
    return list(dict.fromkeys((skill.measure, skill.language, skill.higher_is_better) for skill in every))


def figure_of(skills: Sequence[Skill], measure: str, language: str) -> Estimate | None:
    """The figure of a line; None where a model has none."""
    return next((one.estimate for one in skills if (one.measure, one.language) == (measure, language)), None)
