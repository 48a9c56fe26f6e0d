"""Thresholds of the quality filter. Every default is declared here and nowhere else."""

from typing import Annotated

from pydantic import Field, field_validator

from mlc.languages import resolve_language
from mlc.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0)]
Deviations = Annotated[float, Field(gt=0)]
LogProbability = Annotated[float, Field(le=0)]
Count = Annotated[int, Field(ge=0)]


class Thresholds(Settings):
    """When a row is dropped. A signal that is NULL (not applicable) never drops a row."""

    copied_similarity: Level = 0.85
    """Dropped at or above: similarity of source and translation, 0 to 1. Above 1 switches the rule off."""

    copied_min_letters: Count = 12
    """The copied rule applies from this many letters in the source: names and loan words are rightly equal."""

    script_share: Share = 0.5
    """Dropped below: share of letters in the expected script, 0 to 1. 0 switches the rule off."""

    language_other: Level = 0.6
    """Dropped at or above: probability of another language, 0 to 1. Above 1 switches the rule off."""

    language_source: Level = 0.6
    """Dropped at or above: probability that the text is still in the source language, 0 to 1. Above 1 is off."""

    language_min_letters: Count = 20
    """Both language rules apply from this many letters in the translation."""

    repetition_share: Level = 0.25
    """Dropped at or above: share of repeated n-grams beyond the source's, 0 to 1. Above 1 switches the rule off."""

    repetition_loop: Level = 0.15
    """Dropped at or above: share of characters in a loop beyond the source's, 0 to 1. Above 1 switches it off."""

    cut_off_z: Deviations = 1.5
    """Dropped when the final punctuation is missing and the translation is shorter than usual by more than this
    many robust standard deviations. A translator that reports no end is dropped in any case."""

    placeholders_share: Share = 1.0
    """Dropped below: share of placeholders kept, 0 to 1. 0 switches the rule off."""

    numbers_changed: Count = 0
    """Dropped above: numbers that were replaced by other numbers, counted."""

    numbers_kept: Share = 0.0
    """Dropped below: share of numbers kept, 0 to 1. 0 is off, as numbers may be written out in words."""

    length_z: Deviations = 4.0
    """Dropped beyond, either way: robust standard deviations from the usual length ratio."""

    sentences_share: Share = 0.5
    """Dropped below: share of sentences kept, 0 to 1. 0 switches the rule off."""

    logprob: LogProbability | None = None
    """Dropped below: mean log-probability a token (natural logarithm). Unset is off: it depends on the translator."""


class ThresholdOverrides(Settings):
    """Thresholds of one language; what is unset is as in the default. The meanings are those of `Thresholds`."""

    copied_similarity: Level | None = None
    copied_min_letters: Count | None = None
    script_share: Share | None = None
    language_other: Level | None = None
    language_source: Level | None = None
    language_min_letters: Count | None = None
    repetition_share: Level | None = None
    repetition_loop: Level | None = None
    cut_off_z: Deviations | None = None
    placeholders_share: Share | None = None
    numbers_changed: Count | None = None
    numbers_kept: Share | None = None
    length_z: Deviations | None = None
    sentences_share: Share | None = None
    logprob: LogProbability | None = None


class QualitySettings(Settings):
    """What the quality filter drops, and when it stops the run."""

    default: Thresholds = Thresholds()
    """Thresholds of every language."""

    languages: dict[str, ThresholdOverrides] = Field(default_factory=dict)
    """Thresholds by target language, over the default."""

    min_kept_share: Share = 0.3
    """A language that keeps less than this share of its translations stops the run, 0 to 1."""

    allow_low_yield: bool = False
    """Go on even with languages that keep less than `min_kept_share`."""

    @field_validator("languages")
    @classmethod
    def _by_code(cls, languages: dict[str, ThresholdOverrides]) -> dict[str, ThresholdOverrides]:
        return {resolve_language(name).code: overrides for name, overrides in languages.items()}

    def thresholds(self, language: str) -> Thresholds:
        """Returns the thresholds that hold for a target language.

        Args:
            language: NLLB code.
        """
        overrides = self.languages.get(language, ThresholdOverrides())
        return Thresholds(**{**self.default.model_dump(), **overrides.model_dump(exclude_none=True)})
