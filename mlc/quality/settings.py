"""Settings of the quality filter. Its thresholds are made of what the signals declare, and stand nowhere else."""

import difflib
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Self

from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationInfo, create_model, field_validator

from mlc.errors import UserError
from mlc.languages import ENGLISH, all_languages, resolve_language
from mlc.quality.signals import MODEL_SIGNALS, SIGNALS, Rule, rules_of, signals_of
from mlc.settings import Settings

MODEL_THRESHOLDS: dict[str, tuple[str, ...]] = {
    signal.name: tuple(threshold.name for threshold in signal.thresholds) for signal in MODEL_SIGNALS
}
"""Signals that need a translator or an embedding model, and their thresholds, which do nothing unless their signal is
measured."""

SCRIPT_GROUPS: dict[str, tuple[str, ...]] = {
    "cjk": ("Hang", "Hani", "Hans", "Hant", "Jpan", "Kore"),
    "indic": ("Beng", "Deva", "Gujr", "Guru", "Knda", "Mlym", "Mtei", "Olck", "Orya", "Sinh", "Taml", "Telu"),
    "unspaced": ("Khmr", "Laoo", "Mymr", "Thai", "Tibt"),
    "rtl": ("Arab", "Hebr", "Nkoo", "Syrc", "Thaa"),
}
"""Groups of scripts that thresholds may be given for; no script is in two of them."""


def _fields(rules: Sequence[Rule]) -> dict[str, Any]:
    """A field for each threshold of some rules."""
    thresholds = [threshold for rule in rules for threshold in rule.thresholds]
    return {one.name: (one.kind, Field(default=one.default, description=one.meaning)) for one in thresholds}


def _optional(rules: Sequence[Rule]) -> dict[str, Any]:
    """The same, each of them unset."""
    return {name: (kind | None, None) for name, (kind, _) in _fields(rules).items()}


class Thresholds(create_model("_Thresholds", __base__=Settings, **_fields(rules_of(SIGNALS)))):  # type: ignore[misc]
    """When a row is dropped. A signal that is NULL (not applicable) never drops a row."""


class ThresholdOverrides(create_model("_Overrides", __base__=Settings, **_optional(rules_of(SIGNALS)))):  # type: ignore[misc]
    """Thresholds of some languages; what is unset is as in the default. The meanings are those of `Thresholds`."""


@cache
def _models(more: tuple[str, ...]) -> tuple[type[Thresholds], type[ThresholdOverrides]]:
    """Thresholds and overrides where signals of one's own are measured too."""
    own = [signal for signal in signals_of(more) if signal not in SIGNALS]
    if not own:
        return Thresholds, ThresholdOverrides
    return (
        create_model("OwnThresholds", __base__=Thresholds, **_fields(own)),
        create_model("OwnOverrides", __base__=ThresholdOverrides, **_optional(own)),
    )


class EstimatorSettings(Settings):
    """A model that estimates the quality of translations, for the signal `estimate`."""

    model: str | None = None
    """Hub id or folder: MetricX, such as `google/metricx-24-hybrid-large-v2p6` (Apache-2.0), or a regressor of
    transformers over translation and source with one output."""
    tokenizer: str | None = None
    """Hub id or folder of its tokenizer where it lies elsewhere, such as `google/mt5-large` for MetricX."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    allow_pickle: bool = False
    """Whether weights that are not safetensors may be read; set it only if you trust where they come from."""
    licence: str | None = None
    """Its licence; none = what its card says, else what is known of it by its name."""


class QualitySettings(Settings):
    """What the quality filter drops, and when it stops the run."""

    more_signals: tuple[str, ...] = ()
    """Signals of your own beside those that ship, as `module:object`, see `mlc.quality.signals.signal`. Their
    thresholds stand beside the others."""

    default: SerializeAsAny[Thresholds] = Field(default=Thresholds(), validate_default=True)
    """Thresholds of every language."""

    scripts: SerializeAsAny[dict[str, ThresholdOverrides]] = Field(default_factory=dict)
    """Thresholds by script of the target, such as `Arab`, or by group of scripts (`cjk`, `indic`, `unspaced`, `rtl`),
    over the default; a script is over its group."""

    languages: SerializeAsAny[dict[str, ThresholdOverrides]] = Field(default_factory=dict)
    """Thresholds by target language, over those by script."""

    pairs: SerializeAsAny[dict[str, ThresholdOverrides]] = Field(default_factory=dict)
    """Thresholds by pair of languages, such as `en-sw`, over those by language."""

    length_batch_rows: Annotated[int, Field(ge=2)] | None = 1000
    """From this many rows of a pair of languages on, its usual length is estimated from them; unset: never."""

    model_signals: tuple[str, ...] = ()
    """Signals that need the translator, measured for the rows that passed all others: `reverse`, `round_trip`,
    `meaning`; and `estimate`, which needs `estimator`. Each has its threshold in `default`."""

    estimator: EstimatorSettings = Field(default_factory=EstimatorSettings)
    """The model of the signal `estimate`."""

    min_kept_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """A language that keeps less than this share of its translations stops the run, 0 to 1."""

    allow_low_yield: bool = False
    """Go on even with languages that keep less than `min_kept_share`."""

    @field_validator("more_signals")
    @classmethod
    def _can_be_loaded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        signals_of(names)
        return names

    @field_validator("default", mode="before")
    @classmethod
    def _own_thresholds(cls, value: Any, info: ValidationInfo) -> Any:
        model, _ = _models(info.data.get("more_signals", ()))
        return model.model_validate(value.model_dump(exclude_unset=True) if isinstance(value, Thresholds) else value)

    @field_validator("scripts", "languages", "pairs", mode="before")
    @classmethod
    def _own_overrides(cls, value: Any, info: ValidationInfo) -> Any:
        _, model = _models(info.data.get("more_signals", ()))
        return value if model is ThresholdOverrides else TypeAdapter(dict[str, model]).validate_python(value)  # type: ignore[valid-type]

    @field_validator("model_signals")
    @classmethod
    def _known_signals(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in MODEL_THRESHOLDS:
                raise UserError(
                    f"The signal {name!r} in quality.model_signals needs no translator, or is unknown: choose from "
                    f"{', '.join(MODEL_THRESHOLDS)}."
                )
        return names

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
        return type(self.default)(**values)

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
