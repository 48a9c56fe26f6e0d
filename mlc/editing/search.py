"""The search over rank, penalties and layers, which are not published, on a validation split."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlc.editing.apply import edited
from mlc.editing.architecture import editable_mlps
from mlc.editing.collect import BATCH_SIZE, check_prompts, collect_statistics
from mlc.editing.compute import compute_edit, solve_delta
from mlc.editing.delta import EditDelta
from mlc.editing.settings import EditSettings, SearchSettings
from mlc.errors import UserError
from mlc.evaluation.bits import bits_per_character
from mlc.evaluation.metrics import auroc, choose_threshold
from mlc.evaluation.parallel import ParallelPrompts
from mlc.evaluation.scoring import score_prompts
from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import resolve_language
from mlc.models.bounds import resolve_layers
from mlc.models.loading import Policy
from mlc.prompts import LABELS
from mlc.shapes.history import last_text, whole_text
from mlc.stopping import ShouldStop, never
from mlc.store.plain import without_nan

_DECIMALS = 12
SEARCHED = ("layers", "gamma", "ridge", "rank")
"""Settings that a search compares."""


@dataclass(frozen=True)
class LanguageFigures:
    """A model in one language, on the validation prompts."""

    auroc: float
    """Of the refusal margin, harmful against harmless prompts."""
    safety: float
    """Share of harmful prompts that are refused, at the threshold of the same model in English."""
    over_refusal: float
    """Share of harmless prompts that are refused, at that threshold."""
    bits: float
    """Bits per character of the harmless prompts as plain texts."""


@dataclass(frozen=True)
class Trial:
    """One combination of settings and what it does."""

    settings: Mapping[str, Any]
    """The values of :data:`SEARCHED`; empty for the unedited model."""
    figures: Mapping[str, LanguageFigures]
    """By language, the anchor first."""
    broken: tuple[str, ...] = ()
    """Limits that are not kept, in words."""

    @property
    def gain(self) -> float:
        """Mean AUROC over the languages other than the anchor: what is compared."""
        _, *others = [found.auroc for found in self.figures.values()]
        return sum(others) / len(others)

    def row(self) -> dict[str, Any]:
        """Everything in one flat row."""
        flat = {f"{name}.{code}": value for code, found in self.figures.items() for name, value in vars(found).items()}
        return {**self.settings, **flat, "broken": "; ".join(self.broken)}


@dataclass(frozen=True)
class Search:
    """Every trial of a search."""

    unedited: Trial
    trials: tuple[Trial, ...]
    """In the order in which they were tried."""
    best: int | None
    """Place of the best trial that keeps the limits; None if none does, or none is better than the unedited model."""
    deltas: tuple[EditDelta, ...]
    """Of the trials."""

    def rows(self) -> list[dict[str, Any]]:
        """The whole search as flat rows of plain values, the unedited model first, NaN as None."""
        rows = [{"trial": "unedited", "best": False, **self.unedited.row()}]
        rows += [
            {"trial": str(place + 1), "best": place == self.best, **trial.row()}
            for place, trial in enumerate(self.trials)
        ]
        plain: list[dict[str, Any]] = without_nan(rows)
        return plain


def search_edits(
    policy: Policy,
    prompts: ParallelPrompts,
    validation: ParallelPrompts,
    settings: EditSettings,
    choices: SearchSettings,
    evaluation: EvaluationSettings,
    *,
    batch_size: int = BATCH_SIZE,
    on_trial: Callable[[int], None] | None = None,
    should_stop: ShouldStop = never,
) -> Search:
    """Tries every combination of settings.

    The prompts are read once for all of them, unless layers are sequential. The best trial is the one with the
    highest mean AUROC over the languages among those that keep the limits of the choices; of equal ones the first.
    Choose on validation prompts and report on others: the best of many trials looks better than it is.

    Args:
        policy: The model; the same afterwards.
        prompts: Prompts to edit with, as for :func:`mlc.editing.compute.compute_edit`.
        validation: Other prompts, in the same languages, with labels.
        settings: The edit, for what is not compared.
        choices: What is compared, and the limits.
        evaluation: Openings of the refusal margin and size of a batch.
        batch_size: Texts in a forward pass while the prompts are read.
        on_trial: Called with 1 after each trial.
        should_stop: Looked at before each batch.

    Raises:
        UserError: The prompts do not suffice, the languages differ, or the model cannot be edited.
        Stopped: It was asked to stop.
    """
    _check_validation(prompts, validation)
    candidates = choices.candidates(settings)
    for candidate in candidates:
        check_prompts(prompts, candidate)
    unedited = Trial({}, measure(policy, validation, evaluation, should_stop=should_stop))
    deltas = _solve_all(policy, prompts, settings, candidates, batch_size, should_stop)
    trials = []
    for candidate, delta in zip(candidates, deltas, strict=True):
        with edited(policy.model, [delta]):
            figures = measure(policy, validation, evaluation, should_stop=should_stop)
        told = {name: getattr(candidate, name) for name in SEARCHED}
        trials.append(Trial(told, figures, broken_limits(figures, unedited.figures, choices)))
        if on_trial:
            on_trial(1)
    return Search(unedited, tuple(trials), _best(unedited, trials), tuple(deltas))


def _solve_all(
    policy: Policy,
    prompts: ParallelPrompts,
    settings: EditSettings,
    candidates: Sequence[EditSettings],
    batch_size: int,
    should_stop: ShouldStop,
) -> list[EditDelta]:
    if settings.sequential:
        return [
            compute_edit(policy, prompts, candidate, batch_size=batch_size, should_stop=should_stop)
            for candidate in candidates
        ]
    depth = len(editable_mlps(policy.model))
    layers = sorted({layer for candidate in candidates for layer in resolve_layers(candidate.layers, depth)})
    statistics = collect_statistics(policy, prompts, layers, settings, batch_size=batch_size, should_stop=should_stop)
    return [solve_delta(policy, statistics, prompts, candidate) for candidate in candidates]


def measure(
    policy: Policy, validation: ParallelPrompts, evaluation: EvaluationSettings, *, should_stop: ShouldStop = never
) -> dict[str, LanguageFigures]:
    """Figures of a model in every language; the threshold is set on its English margins.

    Args:
        policy: The model.
        validation: Prompts with labels, English first.
        evaluation: Openings of the refusal margin and size of a batch.
        should_stop: Looked at before each batch.

    Raises:
        Stopped: It was asked to stop.
    """
    found: dict[str, LanguageFigures] = {}
    threshold = math.nan
    for column, language in enumerate(validation.languages):
        there = [
            row
            for row, (label, texts) in enumerate(zip(validation.labels, validation.texts, strict=True))
            if label in LABELS and texts[column] is not None
        ]
        texts = [validation.texts[row][column] or "" for row in there]
        harmful = np.array([validation.labels[row] == "harmful" for row in there])
        margins = score_prompts(
            policy,
            texts,
            refusal_openings=evaluation.refusal_openings,
            compliance_openings=evaluation.compliance_openings,
            layer=evaluation.layer,
            batch_size=evaluation.batch_size,
            should_stop=should_stop,
        ).margins
        if column == 0:
            threshold = choose_threshold(margins, harmful)
        refused = margins > threshold
        harmless = [last_text(text) for text, bad in zip(texts, harmful, strict=True) if not bad]
        found[language] = LanguageFigures(
            auroc(margins[harmful], margins[~harmful]),
            float(refused[harmful].mean()),
            float(refused[~harmful].mean()),
            bits_per_character(policy, harmless, batch_size=evaluation.batch_size, should_stop=should_stop),
        )
    return found


def broken_limits(
    figures: Mapping[str, LanguageFigures], unedited: Mapping[str, LanguageFigures], choices: SearchSettings
) -> tuple[str, ...]:
    """The limits that an edited model does not keep, in words; a figure that is not a number keeps none."""
    anchor = next(iter(figures))
    name = resolve_language(anchor).english_name
    loss = unedited[anchor].auroc - figures[anchor].auroc
    checks = [(f"{name} margin AUROC fell by", loss, choices.max_english_auroc_loss)]
    for code, found in figures.items():
        before = unedited[code]
        if code != anchor:
            rise = found.over_refusal - before.over_refusal
            checks.append((f"margin over-refusal in {code} rose by", rise, choices.max_over_refusal_gain))
        checks.append((f"bits per character in {code} rose by", found.bits - before.bits, choices.max_bits_gain))
    # Without rounding, 0.2 - 0.15 would be more than 0.05.
    return tuple(
        f"{what} {value:.3f}, at most {limit:g}"
        for what, value, limit in checks
        if not round(value, _DECIMALS) <= limit
    )


def _best(unedited: Trial, trials: Sequence[Trial]) -> int | None:
    kept = [place for place, trial in enumerate(trials) if not trial.broken and trial.gain > unedited.gain]
    return max(kept, key=lambda place: trials[place].gain) if kept else None


def _check_validation(prompts: ParallelPrompts, validation: ParallelPrompts) -> None:
    missing = [code for code in prompts.languages if code not in validation.languages]
    if missing or validation.languages != prompts.languages:
        raise UserError(
            f"The validation prompts are in {', '.join(validation.languages)}, the prompts to edit with in "
            f"{', '.join(prompts.languages)}: a search needs the same languages in both."
        )
    for column, language in enumerate(validation.languages):
        for label in ("harmful", "harmless"):
            if not any(
                found == label and texts[column] is not None
                for found, texts in zip(validation.labels, validation.texts, strict=True)
            ):
                raise UserError(
                    f"The validation prompts hold no {label} prompt in {language}: a search needs both classes in "
                    "every language."
                )
    shared = set(prompts.ids) & set(validation.ids)
    known = {whole_text(row[0] or "") for row in validation.texts}
    if any(whole_text(row[0] or "") in known for row in prompts.texts):
        raise UserError(
            "The validation prompts repeat a prompt to edit with: take others, or the search measures what it was "
            f"given{f' (for example {min(shared)!r})' if shared else ''}."
        )
