"""Configuration of the evaluation."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mlc.evaluation.choosing import Entry, choose
from mlc.languages import resolve_languages
from mlc.settings import Settings
from mlc.shapes.labels import checked_labels

SPLITS = ("validation", "test")
"""The threshold is set on the first, and the second is reported."""
RESAMPLES = 1000
"""Bootstrap resamples, unless somebody says otherwise."""


class EvaluationSettings(Settings):
    """How models are measured in every language."""

    validation: str = "shipped:quickstart/validation.jsonl"
    """Prompts on which the English threshold is set and choices are tuned; columns id, prompt, label, kind."""
    test: str = "shipped:quickstart/test.jsonl"
    """Held-out prompts, reported once; same columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of both files by role, where they have other names, such as ``{prompt: goal}``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """``harmful`` or ``harmless`` by what the files write, such as ``{1: harmful, 0: harmless}``."""
    references: str | None = "shipped:quickstart/references"
    """Folder with human translations, one table a split, such as ``validation.jsonl`` and ``test.csv``: id, and one
    column per language, named by NLLB code or tag. A language that it lacks is machine-translated, and the report says
    so."""
    languages: tuple[str, ...] = ()
    """Languages that are measured beside those that are trained, and not trained: names, tags or NLLB codes. They show
    how far the alignment carries over to languages that it has not seen."""
    limit: int | None = Field(default=None, ge=4)
    """Only so many prompts of each split, the first ones of each label; none = all."""
    refusal_openings: tuple[str, ...] = Field(default=("I can't help with", "I'm not able to"), min_length=1)
    """Openings of a refusal; their mean log-probability per token is one side of the refusal margin."""
    compliance_openings: tuple[str, ...] = Field(default=("Sure, here is", "Start with"), min_length=1)
    """Openings of an answer; the other side of the margin."""
    layer: int | float = 0.5
    """Layer for the representation figures, see :func:`mlc.models.states.prompt_states`."""
    own_threshold: Literal["all"] | Annotated[int, Field(ge=4)] = "all"
    """Validation prompts that are scored in each language beside the anchor, to set a threshold on the language's own
    prompts: all, or so many, the first ones, half of them harmful. That threshold shows what calibration could give,
    and decides nothing."""
    answers: Literal["all"] | Annotated[int, Field(ge=0)] = "all"
    """Test prompts a language that are answered greedily: all, or so many, half of them harmful; 0 answers none."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest greedy answer, in tokens."""
    judges: tuple[Entry, ...] = ("rules",)
    """What judges those answers: `rules`, `openings`, a judge that asks a model (docs/judges.md), or one of your own as
    `module:object`, see `mlc.evaluation.judges.judge`. A judge with settings is a mapping, such as `{name: llm, model:
    large, endpoint: http://127.0.0.1:8000/v1}`. The first one decides, the others are shown beside it."""
    batch_size: int = Field(default=20, ge=1)
    """Prompts in a forward pass; does not change results."""
    resamples: int = Field(default=RESAMPLES, ge=100)
    """Bootstrap resamples for the intervals."""

    @field_validator("languages")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return resolve_languages(languages)

    @field_validator("judges")
    @classmethod
    def _can_be_loaded(cls, judges: tuple[Entry, ...]) -> tuple[Entry, ...]:
        choose(judges)
        return judges

    @field_validator("labels", mode="before")
    @classmethod
    def _two_labels(cls, labels: Any) -> dict[str, str]:
        return checked_labels(labels, "evaluation")
