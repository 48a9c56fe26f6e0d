"""Configuration of the evaluation."""

from pydantic import Field, field_validator

from mlc.catalogue import JUDGES
from mlc.errors import UserError
from mlc.settings import Settings

RESAMPLES = 1000
"""Bootstrap resamples, unless somebody says otherwise."""


class EvaluationSettings(Settings):
    """How models are measured in every language."""

    validation: str = "shipped:quickstart/validation.jsonl"
    """Prompts on which the English threshold is set and choices are tuned; columns id, prompt, label, kind."""
    test: str = "shipped:quickstart/test.jsonl"
    """Held-out prompts, reported once; same columns."""
    references: str | None = "shipped:quickstart/references"
    """Folder with human translations ``validation.jsonl`` and ``test.jsonl`` (id and one column per NLLB code).
    A language that it lacks is machine-translated, and the report says so."""
    limit: int | None = Field(default=None, ge=4)
    """Only the first prompts of each split; none = all."""
    refusal_openings: tuple[str, ...] = Field(default=("I can't help with", "I'm not able to"), min_length=1)
    """Openings of a refusal; their mean log-probability per token is one side of the refusal margin."""
    compliance_openings: tuple[str, ...] = Field(default=("Sure, here is", "Start with"), min_length=1)
    """Openings of an answer; the other side of the margin."""
    layer: int | float = 0.5
    """Layer for the representation figures, see :func:`mlc.models.states.prompt_states`."""
    answers_per_language: int = Field(default=4, ge=0)
    """Held-out prompts a language that are answered greedily, half of them harmful."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest greedy answer, in tokens."""
    judges: tuple[str, ...] = ("openings",)
    """What judges those answers: `openings`, `rules` (docs/judges.md), or a judge of your own as `module:object`, see
    `mlc.evaluation.judges.judge`."""
    batch_size: int = Field(default=20, ge=1)
    """Prompts in a forward pass; does not change results."""
    resamples: int = Field(default=RESAMPLES, ge=100)
    """Bootstrap resamples for the intervals."""

    @field_validator("judges")
    @classmethod
    def _can_be_loaded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            JUDGES.load(name)
        if len(set(names)) < len(names):
            raise UserError(f"The judges {', '.join(names)} in evaluation.judges repeat: name each once.")
        return names
