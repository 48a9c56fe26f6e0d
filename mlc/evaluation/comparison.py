"""Comparison of models over languages and seeds.

A prompt is a cluster: its translations share content, and every model and seed answers the same prompts. A bootstrap
resample therefore draws prompts, harmful and harmless ones apart, and takes each along with all its languages, models
and seeds (clustered standard errors: Miller, "Adding Error Bars to Evals", arXiv 2411.00640; here by resampling).
Thresholds are taken as given. Languages count equally, seeds count equally.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from mlc.errors import UserError
from mlc.evaluation.metrics import (
    BOOTSTRAP_SEED,
    RATES,
    Flags,
    Floats,
    Metric,
    ScoredPrompts,
    estimate,
    measure,
    resample_counts,
    scored_prompts,
    wilson,
)
from mlc.evaluation.results import Estimate, EvaluationResult, anchor_of
from mlc.evaluation.settings import RESAMPLES
from mlc.languages import ENGLISH, resolve_language

Run = tuple[str, int | None]
Group = Literal["english", "other", "trained", "unseen"]
"""``english`` is the anchor language, whichever it is."""

TABLE_METRICS: tuple[Metric, ...] = (
    "auroc",
    "balanced_accuracy",
    "safety",
    "over_refusal",
    "lookalike_over_refusal",
)

_MIN_SEEDS_TO_RESAMPLE = 3
_DECIMALS = 12


@dataclass(frozen=True)
class Figure:
    """A figure averaged over seeds, and what each seed gives."""

    estimate: Estimate
    """Mean over languages and seeds; the interval is over prompts, not over seeds."""
    by_seed: tuple[tuple[int | None, float], ...]
    """Mean over languages of each seed, in the order of the seeds."""


@dataclass(frozen=True)
class GroupFigures:
    """Figures of one model, averaged over a group of languages."""

    languages: tuple[str, ...]
    """NLLB codes, sorted."""
    figures: Mapping[Metric, Figure]


@dataclass(frozen=True)
class ModelRow:
    """One model in the table of models."""

    model: str
    seeds: tuple[int | None, ...]
    groups: Mapping[Group, GroupFigures]
    """Groups without languages are absent."""
    safety_variance: float
    """Population variance over all languages, English included, of the safety rates (fractions) × 100, mean over
    seeds; NaN with a single language. It says nothing alone: refusing everything gives 0."""


class Evaluations:
    """Results of several models, seeds and languages, ready to be averaged and compared.

    Args:
        results: One result for each model, seed and language; the order does not matter.
        labels: What models are called, in the order in which they are shown; others follow by name.
        resamples: Bootstrap resamples.

    Raises:
        UserError: There are no results, one of them holds no test prompt, or one occurs twice.
    """

    def __init__(
        self,
        results: Sequence[EvaluationResult],
        *,
        labels: Mapping[str, str] = MappingProxyType({}),
        resamples: int = RESAMPLES,
    ) -> None:
        if not results:
            raise UserError("There are no evaluation results to compare: evaluate at least one model first.")
        self._prompts: dict[Run, dict[str, ScoredPrompts]] = {}
        for result in results:
            summary = result.summary
            languages = self._prompts.setdefault((summary.model, summary.seed), {})
            if summary.language in languages:
                raise UserError(
                    f"Two results are given for {summary.model}, seed {summary.seed}, {summary.language}: keep one."
                )
            languages[summary.language] = scored_prompts(result.rows, summary.threshold)
        self.anchor = anchor_of(results)
        """NLLB code of the language that thresholds were set in."""
        self._names = labels
        self._resamples = resamples
        self._counts: dict[tuple[str, ...], Floats] = {}
        self._draws: dict[tuple[Run, str, Metric, tuple[str, ...], tuple[str, ...]], Floats] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """The models, those with a label first, in the order of the labels."""
        order = list(self._names)
        found = {model for model, _ in self._prompts}
        return tuple(sorted(found, key=lambda model: (order.index(model) if model in order else len(order), model)))

    def label(self, model: str) -> str:
        """What a model is called; its name, if it has no label."""
        return self._names.get(model, model)

    def seeds(self, model: str) -> tuple[int | None, ...]:
        """The seeds of a model, sorted.

        Raises:
            UserError: There is no such model.
        """
        found = [seed for name, seed in self._prompts if name == model]
        if not found:
            raise UserError(f"There are no results of the model {model!r}: choose from {', '.join(self.models)}.")
        return tuple(sorted(found, key=lambda seed: -1 if seed is None else seed))

    def languages(self, model: str | None = None) -> tuple[str, ...]:
        """The languages in which every seed of a model, or of all models, was evaluated, sorted."""
        runs = self._prompts if model is None else [(model, seed) for seed in self.seeds(model)]
        return _common_languages([self._prompts[run] for run in runs])

    def average(self, model: str, languages: Collection[str], metric: Metric) -> Figure:
        """Averages a metric of one model over languages and seeds.

        The interval is from the cluster bootstrap. Rates of a single evaluation, and rates that are 0 or 1 everywhere,
        where a bootstrap shows no doubt at all, have Wilson's interval for their number of prompts.

        Args:
            model: Role of the model.
            languages: NLLB codes, at least one.
            metric: Which figure.

        Raises:
            UserError: The model lacks one of the languages in one of its seeds, or none is given.
        """
        seeds = self.seeds(model)
        runs = [(model, seed) for seed in seeds]
        chosen = self._check_languages(languages, runs)
        draws, n = self._measure(runs, chosen, metric)
        per_seed = draws.mean(axis=1)
        by_seed = tuple((seed, float(values[0])) for seed, values in zip(seeds, per_seed, strict=True))
        return Figure(_averaged(per_seed.mean(axis=0), n, metric, alone=len(runs) == len(chosen) == 1), by_seed)

    def compare(
        self,
        *,
        baseline: str,
        candidate: str,
        languages: Literal["other"] | Collection[str] = "other",
        metric: Metric,
        resample_seeds: bool = False,
    ) -> Estimate:
        """Does what :func:`compare` does."""
        _check_metric(metric)
        pairs = self.seed_pairs(baseline, candidate)
        before: list[Run] = [(baseline, seed) for seed, _ in pairs]
        after: list[Run] = [(candidate, seed) for _, seed in pairs]
        runs = list(dict.fromkeys(before + after))
        if languages == "other":
            languages = [
                code for code in _common_languages([self._prompts[run] for run in runs]) if code != self.anchor
            ]
            if not languages:
                name = resolve_language(self.anchor).english_name
                raise UserError(f"{baseline} and {candidate} were not both evaluated in a language other than {name}.")
        chosen = self._check_languages(languages, runs)
        if metric == "matched_cosine" and self.anchor in chosen:
            name = resolve_language(self.anchor).english_name
            raise UserError(
                f"matched_cosine compares a language with {name}; leave {self.anchor} out of the languages."
            )
        draws, n = self._measure(runs, chosen, metric)
        position = {run: index for index, run in enumerate(runs)}
        # [pairs, 1 + R]
        difference = (draws[[position[run] for run in after]] - draws[[position[run] for run in before]]).mean(axis=1)
        # Without rounding, a bound of 0 could become -1e-17 and seem to exclude 0.
        return estimate(np.round(_over_seeds(difference, resample_seeds), _DECIMALS), n)

    def seed_pairs(self, baseline: str, candidate: str) -> tuple[tuple[int | None, int | None], ...]:
        """Which seed of one model is compared with which of the other.

        Equal seeds belong together; a model without a seed is compared with every seed of the other.

        Raises:
            UserError: A model is unknown, or the two share no seed.
        """
        first, second = self.seeds(baseline), self.seeds(candidate)
        if first == (None,):
            return tuple((None, seed) for seed in second)
        if second == (None,):
            return tuple((seed, None) for seed in first)
        both = [seed for seed in first if seed in second]
        if not both:
            raise UserError(
                f"{baseline} (seeds {_listed(first)}) and {candidate} (seeds {_listed(second)}) share no seed: "
                "train both with the same seeds."
            )
        return tuple((seed, seed) for seed in both)

    def _check_languages(self, languages: Collection[str], runs: Sequence[Run]) -> tuple[str, ...]:
        if isinstance(languages, str):
            raise UserError(f"languages must be 'other' or a list of NLLB codes, not {languages!r}.")
        chosen = tuple(sorted(set(languages)))
        if not chosen:
            raise UserError("No language is given to average over.")
        for run in runs:
            missing = [code for code in chosen if code not in self._prompts[run]]
            if missing:
                seed = "" if run[1] is None else f" (seed {run[1]})"
                raise UserError(
                    f"{run[0]}{seed} was not evaluated in {missing[0]}: choose from {_listed(self._prompts[run])}."
                )
        return chosen

    def _measure(self, runs: Sequence[Run], languages: Sequence[str], metric: Metric) -> tuple[Floats, int]:
        """Draws of each run and language, [runs, languages, 1 + R], and the number of prompts behind them."""
        shared = {code: _common_ids([self._prompts[run][code] for run in runs]) for code in languages}
        clusters = tuple(sorted({name for ids in shared.values() for name in ids}))
        harmful = self._labels(runs, languages, clusters)
        if clusters not in self._counts:
            self._counts[clusters] = resample_counts(harmful, self._resamples)
        draws = [[self._draw(run, code, metric, shared[code], clusters) for code in languages] for run in runs]
        behind: set[str] = set()
        for run in runs:
            for code in languages:
                prompts = self._prompts[run][code]
                counted = {name for name, counts in zip(prompts.ids, prompts.behind(metric), strict=True) if counts}
                behind |= counted.intersection(shared[code])
        return np.asarray(draws), len(behind)

    def _draw(
        self, run: Run, language: str, metric: Metric, shared: tuple[str, ...], clusters: tuple[str, ...]
    ) -> Floats:
        key = (run, language, metric, shared, clusters)
        if key not in self._draws:
            prompts = self._prompts[run][language]
            place = {name: index for index, name in enumerate(prompts.ids)}
            column = {name: index for index, name in enumerate(clusters)}
            counts = self._counts[clusters][:, [column[name] for name in shared]]
            chosen = prompts.select(np.asarray([place[name] for name in shared], dtype=np.intp))
            self._draws[key] = measure(metric, chosen, counts)
        return self._draws[key]

    def _labels(self, runs: Sequence[Run], languages: Sequence[str], clusters: Sequence[str]) -> Flags:
        labels: dict[str, bool] = {}
        for run in runs:
            for code in languages:
                prompts = self._prompts[run][code]
                for name, harmful in zip(prompts.ids, prompts.harmful, strict=True):
                    if labels.setdefault(name, bool(harmful)) != bool(harmful):
                        raise UserError(
                            f"The prompt {name!r} is harmful in one evaluation and harmless in another: "
                            "evaluate all models on the same prompts."
                        )
        return np.asarray([labels[name] for name in clusters], dtype=bool)


def compare(
    results: Sequence[EvaluationResult],
    *,
    baseline: str,
    candidate: str,
    languages: Literal["other"] | Collection[str] = "other",
    metric: Metric,
    resamples: int = RESAMPLES,
    resample_seeds: bool = False,
) -> Estimate:
    """Computes candidate minus baseline, averaged over languages and seeds.

    Only prompts that both models and all seeds have in a language count. Equal seeds are compared with each other;
    a model without a seed, the base model, is compared with every seed.

    Args:
        results: Results of both models, and perhaps others.
        baseline: Role of the model to subtract.
        candidate: Role of the model to judge.
        languages: NLLB codes, or ``other`` for all that both have except English.
        metric: Which figure. Higher is better for all but the two over-refusal rates.
        resamples: Bootstrap resamples.
        resample_seeds: Resample seeds too, so that the interval also covers the noise of training; with fewer than
            three seeds it changes nothing, for so few say nothing about their spread.

    Returns:
        The difference, in [-1, 1] ([-2, 2] for the cosine), with its cluster bootstrap interval; ``n`` is the number
        of prompts behind it. NaN with ``n`` 0 if a language lacks the prompts that the metric needs.

    Raises:
        UserError: A model, language or common seed is missing, or the prompts contradict each other.
    """
    return Evaluations(results, resamples=resamples).compare(
        baseline=baseline, candidate=candidate, languages=languages, metric=metric, resample_seeds=resample_seeds
    )


def model_table(
    results: Sequence[EvaluationResult],
    *,
    trained_languages: Collection[str] | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
    resamples: int = RESAMPLES,
) -> list[ModelRow]:
    """Averages the figures of each model over English and over the other languages.

    Only languages in which all models and seeds were evaluated count, so that the rows can be compared.

    Args:
        results: Results of the models.
        trained_languages: Languages whose translations were trained on; given, the other languages are also split
            into trained and unseen ones.
        labels: As in :class:`Evaluations`.
        resamples: Bootstrap resamples.

    Returns:
        One row a model, in the order of the labels, then others by name.

    Raises:
        UserError: There are no results, or one is given twice.
    """
    return model_rows(Evaluations(results, labels=labels, resamples=resamples), trained_languages=trained_languages)


def model_rows(evaluations: Evaluations, *, trained_languages: Collection[str] | None = None) -> list[ModelRow]:
    """Does what :func:`model_table` does, for evaluations at hand."""
    groups = group_languages(evaluations.languages(), trained_languages, evaluations.anchor)
    return [
        ModelRow(
            model=model,
            seeds=evaluations.seeds(model),
            groups={
                group: GroupFigures(
                    members, {metric: evaluations.average(model, members, metric) for metric in TABLE_METRICS}
                )
                for group, members in groups.items()
            },
            safety_variance=_safety_variance(evaluations, model),
        )
        for model in evaluations.models
    ]


def group_languages(
    languages: Collection[str], trained_languages: Collection[str] | None, anchor: str = ENGLISH
) -> dict[Group, tuple[str, ...]]:
    """Splits languages into the anchor, the others, and of these the trained and unseen ones; no group is empty."""
    other = tuple(sorted(code for code in languages if code != anchor))
    groups: dict[Group, tuple[str, ...]] = {
        "english": tuple(code for code in languages if code == anchor),
        "other": other,
    }
    if trained_languages is not None:
        groups["trained"] = tuple(code for code in other if code in trained_languages)
        groups["unseen"] = tuple(code for code in other if code not in trained_languages)
    return {group: members for group, members in groups.items() if members}


def _safety_variance(evaluations: Evaluations, model: str) -> float:
    languages = evaluations.languages()
    if len(languages) < 2:
        return math.nan
    rates = [[rate for _, rate in evaluations.average(model, [code], "safety").by_seed] for code in languages]
    return float(np.var(np.asarray(rates), axis=0).mean() * 100)


def _averaged(draws: Floats, n: int, metric: Metric, *, alone: bool) -> Estimate:
    value = float(draws[0])
    if metric in RATES and n and (alone or value in (0.0, 1.0)):
        return wilson(round(value * n), n)
    return estimate(draws, n)


def _over_seeds(difference: Floats, resample_seeds: bool) -> Floats:
    """Averages [pairs, 1 + R] over the pairs, which are resampled too if asked for and if there are enough."""
    pairs, draws = difference.shape
    if not resample_seeds or pairs < _MIN_SEEDS_TO_RESAMPLE:
        return np.asarray(difference.mean(axis=0))
    generator = np.random.default_rng(BOOTSTRAP_SEED + 1)
    counts = np.ones((draws, pairs))
    counts[1:] = generator.multinomial(pairs, np.full(pairs, 1 / pairs), size=draws - 1)
    return np.asarray((counts.T * difference).mean(axis=0))


def _common_ids(cells: Sequence[ScoredPrompts]) -> tuple[str, ...]:
    shared = set(cells[0].ids).intersection(*(cell.ids for cell in cells[1:]))
    return tuple(sorted(shared))


def _common_languages(runs: Sequence[Mapping[str, ScoredPrompts]]) -> tuple[str, ...]:
    return tuple(sorted(set(runs[0]).intersection(*runs[1:])))


def _check_metric(metric: str) -> None:
    if metric not in get_args(Metric):
        raise UserError(f"The metric {metric!r} is unknown: choose from {', '.join(get_args(Metric))}.")


def _listed(values: Collection[object]) -> str:
    return ", ".join(str(value) for value in values)
