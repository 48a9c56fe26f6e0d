"""The policy of a gate: what a candidate must show before it becomes champion."""

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from mlc.errors import UserError
from mlc.evaluation.figures import SELECTIVITIES, Answered, Figure
from mlc.settings import Settings

Scope = Literal["each language", "each trained language", "mean", "worst", "english", "other languages"]
Against = Literal["absolute", "base", "baseline", "english-only", "champion"]
Confidence = Literal["interval", "point"]


class ConditionSettings(Settings):
    """One condition; it has one of the two bounds."""

    figure: Figure
    """What is measured, see docs/evaluate.md: on the judged answers (up to ``harmless_in_language``), or by the refusal
    margin."""
    at_least: float | None = None
    """The figure must not be below this."""
    at_most: float | None = None
    """The figure must not be above this."""
    scope: Scope = "each language"
    """Where: in ``each language``, in each that was trained (English is), in the ``mean`` over all, in the ``worst`` of
    them, in ``english`` (the anchor language, whichever it is), or in the mean over the ``other languages``."""
    suite: str = ""
    """Name of the suite of ``evaluation.suites`` whose prompts are meant, in the languages that it was asked in; the
    held-out prompts if left out."""
    against: Against = "absolute"
    """What is bounded: the figure itself (``absolute``), or candidate minus another model on the same prompts: the
    ``base`` model, the ``baseline`` that the candidate's method is held against, ``english-only``, or the ``champion``
    of the registry. Where there is no champion yet, a condition against it is kept."""
    confidence: Confidence = "interval"
    """Whether the whole 95 % ``interval`` must keep the bound, or the ``point`` alone."""
    classes: tuple[str, ...] = ()
    """Only prompts with these words in the column ``kind`` of the suite, such as ``[lookalike]``; all of them if left
    out."""

    @field_validator("classes", mode="after")
    @classmethod
    def _sorted(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(classes)))

    @model_validator(mode="after")
    def _one_bound(self) -> "ConditionSettings":
        if (self.at_least is None) == (self.at_most is None):
            raise UserError(
                f"The gate's condition on {self.figure} must have one bound, at_least or at_most, "
                f"not {'none' if self.at_least is None else 'both'}."
            )
        low, high = self.range
        if not low <= self.bound <= high:
            raise UserError(
                f"The gate's condition on {self.figure} has the bound {self.bound:g}, which it can never reach: give "
                f"one from {low:g} to {high:g}."
            )
        return self

    @property
    def bound(self) -> float:
        """The bound, whichever it is."""
        bound = self.at_most if self.at_least is None else self.at_least
        assert bound is not None  # checked above
        return bound

    @property
    def range(self) -> tuple[float, float]:
        """What the figure, or its difference, can be."""
        low, high = (-1.0 if self.figure in SELECTIVITIES else 0.0), 1.0
        return (low, high) if self.against == "absolute" else (low - high, high - low)


class GateSettings(Settings):
    """Conditions for promotion; all must be kept.

    In its place may stand the name of a shipped policy (``strict``, ``quickstart`` or ``margins``), or a YAML file with
    these keys. If it is left out, the policy is ``strict``.
    """

    name: str = "own"
    """What the policy is called, wherever its decision is told."""
    conditions: tuple[ConditionSettings, ...] = Field(min_length=1)
    """What a candidate must show."""

    @field_validator("conditions", mode="after")
    @classmethod
    def _each_once(cls, conditions: tuple[ConditionSettings, ...]) -> tuple[ConditionSettings, ...]:
        for condition in conditions:
            if conditions.count(condition) > 1:
                raise UserError(f"The gate has the same condition on {condition.figure} twice: name it once.")
        return conditions

    @property
    def reads_answers(self) -> bool:
        """Whether any condition is about answers."""
        return any(condition.figure in get_args(Answered) for condition in self.conditions)

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites that conditions are about, sorted."""
        return tuple(sorted({condition.suite for condition in self.conditions if condition.suite}))

    @property
    def compares_with_champion(self) -> bool:
        """Whether any condition is against the live champion."""
        return any(condition.against == "champion" for condition in self.conditions)
