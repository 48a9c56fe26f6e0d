"""Thresholds of the quality filter. Every default is declared here and nowhere else."""

import difflib
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from mlc.errors import UserError
from mlc.languages import ENGLISH, all_languages, resolve_language
from mlc.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0)]
Deviations = Annotated[float, Field(gt=0)]
LogProbability = Annotated[float, Field(le=0)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0)]

ModelSignal = Literal["reverse", "round_trip", "meaning"]
"""Signals that need a translator or an embedding model."""

MODEL_THRESHOLDS: dict[ModelSignal, tuple[str, ...]] = {
    "reverse": ("reverse_logprob", "dual_cross_entropy"),
    "round_trip": ("round_trip_chrf",),
    "meaning": ("similarity", "embedding_similarity"),
}
"""Thresholds that do nothing unless their signal is measured."""

SCRIPT_GROUPS: dict[str, tuple[str, ...]] = {
    "cjk": ("Hang", "Hani", "Hans", "Hant", "Jpan", "Kore"),
    "indic": ("Beng", "Deva", "Gujr", "Guru", "Knda", "Mlym", "Mtei", "Olck", "Orya", "Sinh", "Taml", "Telu"),
    "unspaced": ("Khmr", "Laoo", "Mymr", "Thai", "Tibt"),
    "rtl": ("Arab", "Hebr", "Nkoo", "Syrc", "Thaa"),
}
"""Groups of scripts that thresholds may be given for; no script is in two of them."""


class Thresholds(Settings):
    """When a row is dropped. A signal that is NULL (not applicable) never drops a row."""

    garbled_count: Count = 0
    """Dropped above: garbled characters beyond the source's, counted."""

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

    caps_share: Level = 0.5
    """Dropped at or above: share of letters in words of capitals beyond the source's, 0 to 1. Above 1 is off."""

    caps_min_letters: Count = 12
    """The caps rule applies from this many letters in the translation."""

    repetition_share: Level = 0.25
    """Dropped at or above: share of repeated n-grams beyond the source's, 0 to 1. Above 1 switches the rule off."""

    repetition_loop: Level = 0.1
    """Dropped at or above: share of characters in a loop beyond the source's, 0 to 1. Above 1 switches it off."""

    cut_off_z: Deviations = 0.5
    """Dropped when the final punctuation is missing and the translation is shorter than usual by more than this
    many robust standard deviations. A translator that reports no end is dropped in any case."""

    placeholders_share: Share = 1.0
    """Dropped below: share of placeholders kept, 0 to 1. 0 switches the rule off."""

    numbers_changed: Count = 0
    """Dropped above: numbers that were replaced by other numbers, counted."""

    numbers_kept: Share = 0.0
    """Dropped below: share of numbers kept, 0 to 1. 0 is off, as numbers may be written out in words."""

    length_z: Deviations = 2.75
    """Dropped beyond, either way: robust standard deviations from the usual length ratio."""

    lines_share: Share = 0.6
    """Dropped below: smaller number of lines over the larger one, 0 to 1. 0 switches the rule off."""

    sentences_share: Share = 0.5
    """Dropped below: share of sentences kept, 0 to 1. 0 switches the rule off."""

    sentences_z: Deviations = 0.5
    """Dropped when a sentence is missing and the translation is shorter than usual by more than this many robust
    standard deviations."""

    collapsed_sources: Annotated[int, Field(ge=2)] = 3
    """Dropped at or above: different sources that share one translation, counted over all rows."""

    collapsed_min_letters: Count = 12
    """The collapsed rule applies from this many letters in the translation: short answers are rightly shared."""

    logprob: LogProbability | None = None
    """Dropped below: mean log-probability a token (natural logarithm). Unset is off: it depends on the translator."""

    reverse_logprob: LogProbability | None = None
    """Dropped below: mean log-probability a token of the source, given the translation. Unset is off."""

    dual_cross_entropy: Level | None = None
    """Dropped above: dual conditional cross-entropy, 0 for two sure and agreeing directions. Unset is off."""

    round_trip_chrf: Share | None = None
    """Dropped below: chrF of the back-translation against the source, 0 to 1. Unset is off."""

    similarity: Cosine | None = None
    """Dropped below: cosine of the translator's own states of source and translation, -1 to 1. Unset is off."""

    embedding_similarity: Cosine | None = None
    """Dropped below: cosine of the sentence embeddings of source and translation, -1 to 1. Unset is off."""

    quality: Share | None = None
    """Dropped below: the calibrated quality, 0 to 1. Unset is off."""


class ThresholdOverrides(Settings):
    """Thresholds of some languages; what is unset is as in the default. The meanings are those of `Thresholds`."""

    garbled_count: Count | None = None
    copied_similarity: Level | None = None
    copied_min_letters: Count | None = None
    script_share: Share | None = None
    language_other: Level | None = None
    language_source: Level | None = None
    language_min_letters: Count | None = None
    caps_share: Level | None = None
    caps_min_letters: Count | None = None
    repetition_share: Level | None = None
    repetition_loop: Level | None = None
    cut_off_z: Deviations | None = None
    placeholders_share: Share | None = None
    numbers_changed: Count | None = None
    numbers_kept: Share | None = None
    length_z: Deviations | None = None
    lines_share: Share | None = None
    sentences_share: Share | None = None
    sentences_z: Deviations | None = None
    collapsed_sources: Annotated[int, Field(ge=2)] | None = None
    collapsed_min_letters: Count | None = None
    logprob: LogProbability | None = None
    reverse_logprob: LogProbability | None = None
    dual_cross_entropy: Level | None = None
    round_trip_chrf: Share | None = None
    similarity: Cosine | None = None
    embedding_similarity: Cosine | None = None
    quality: Share | None = None


class QualitySettings(Settings):
    """What the quality filter drops, and when it stops the run."""

    default: Thresholds = Thresholds()
    """Thresholds of every language."""

    scripts: dict[str, ThresholdOverrides] = Field(default_factory=dict)
    """Thresholds by script of the target, such as `Arab`, or by group of scripts (`cjk`, `indic`, `unspaced`, `rtl`),
    over the default; a script is over its group."""

    languages: dict[str, ThresholdOverrides] = Field(default_factory=dict)
    """Thresholds by target language, over those by script."""

    pairs: dict[str, ThresholdOverrides] = Field(default_factory=dict)
    """Thresholds by pair of languages, such as `en-sw`, over those by language."""

    length_batch_rows: Annotated[int, Field(ge=2)] | None = 1000
    """From this many rows of a pair of languages on, its usual length is estimated from them; unset: never."""

    model_signals: tuple[ModelSignal, ...] = ()
    """Signals that need the translator, measured for the rows that passed all others: `reverse`, `round_trip`,
    `meaning`. Each has its threshold in `default`."""

    min_kept_share: Share = 0.3
    """A language that keeps less than this share of its translations stops the run, 0 to 1."""

    allow_low_yield: bool = False
    """Go on even with languages that keep less than `min_kept_share`."""

    @field_validator("scripts")
    @classmethod
    def _known_scripts(cls, scripts: dict[str, ThresholdOverrides]) -> dict[str, ThresholdOverrides]:
        known = {name.casefold(): name for name in (*SCRIPT_GROUPS, *sorted({row.script for row in all_languages()}))}
        for name in scripts:
            if name.casefold() not in known:
                near = difflib.get_close_matches(name.casefold(), known, n=1)
                hint = f"did you mean {known[near[0]]}?" if near else f"write one of {', '.join(known.values())}."
                raise UserError(f"The script {name!r} in quality.scripts is unknown: {hint}")
        return {known[name.casefold()]: overrides for name, overrides in scripts.items()}

    @field_validator("languages")
    @classmethod
    def _by_code(cls, languages: dict[str, ThresholdOverrides]) -> dict[str, ThresholdOverrides]:
        return {resolve_language(name).code: overrides for name, overrides in languages.items()}

    @field_validator("pairs")
    @classmethod
    def _by_codes(cls, pairs: dict[str, ThresholdOverrides]) -> dict[str, ThresholdOverrides]:
        return {"-".join(_two_codes(name)): overrides for name, overrides in pairs.items()}

    def thresholds(self, target: str, source: str = ENGLISH) -> Thresholds:
        """Returns the thresholds that hold for a pair of languages.

        The most specific one that is set counts: pair of languages, target language, its script, its group of scripts,
        default.

        Args:
            target: NLLB code.
            source: NLLB code.
        """
        script = next((row.script for row in all_languages() if row.code == target), "")
        group = next((name for name, scripts in SCRIPT_GROUPS.items() if script in scripts), "")
        levels = (
            self.scripts.get(group),
            self.scripts.get(script),
            self.languages.get(target),
            self.pairs.get(f"{source}-{target}"),
        )
        values = self.default.model_dump()
        for level in levels:
            values |= level.model_dump(exclude_none=True) if level else {}
        return Thresholds(**values)

    def only_for(self, target: str, source: str = ENGLISH) -> Self:
        """The settings that decide about one pair of languages: overrides for others are left out."""
        script = next((row.script for row in all_languages() if row.code == target), "")
        groups = {script, *(name for name, scripts in SCRIPT_GROUPS.items() if script in scripts)}
        return self.model_copy(
            update={
                "scripts": {name: value for name, value in self.scripts.items() if name in groups},
                "languages": {name: value for name, value in self.languages.items() if name == target},
                "pairs": {name: value for name, value in self.pairs.items() if name == f"{source}-{target}"},
            }
        )


def _two_codes(name: str) -> tuple[str, str]:
    """The languages of a pair such as ``en-sw`` or ``zh-Hant-en``: wherever both sides are languages."""
    words = name.split("-")
    for place in range(1, len(words)):
        try:
            return tuple(resolve_language("-".join(part)).code for part in (words[:place], words[place:]))  # type: ignore[return-value]
        except UserError:
            continue
    raise UserError(
        f"The pair of languages {name!r} in quality.pairs is unknown: write the source, a hyphen and the target, such "
        "as en-sw."
    )
