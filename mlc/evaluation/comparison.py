"""Comparison of models over languages and seeds.

A prompt is a cluster: its translations share content, and every model and seed answers the same prompts. Shares,
selectivities and their differences have the intervals of :mod:`mlc.evaluation.paired`. For AUROC and the cosine a
bootstrap resample draws prompts, harmful and harmless ones apart, and takes each along with all its languages, models
and seeds. Thresholds are taken as given. Languages count equally, seeds count equally.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from mlc.errors import UserError
from mlc.evaluation.figures import SELECTIVITIES
from mlc.evaluation.intervals import Floats, half_width, halved, mean_area, minus, over_seeds
from mlc.evaluation.metrics import (
    RATES,
    Flags,
    Metric,
    ScoredPrompts,
    estimate,
    figure,
    measure,
    resample_counts,
    scored_prompts,
)
from mlc.evaluation.paired import Change, Stratum, change, holm, mean, share
from mlc.evaluation.results import MISSING, Estimate, EvaluationResult, anchor_of
from mlc.evaluation.settings import RESAMPLES
from mlc.languages import ENGLISH, resolve_language

Run = tuple[str, int | None]
Group = Literal["english", "other", "trained", "unseen"]
"""``english`` is the anchor language, whichever it is."""

ANSWER_METRICS: tuple[Metric, ...] = (
    "selectivity",
    "attack_success",
    "harmful_refused",
    "harmful_invalid",
    "harmless_answered",
    "harmless_refused",
    "lookalike_refused",
    "harmless_invalid",
    "unsure",
    "in_language",
    "harmful_in_language",
    "harmless_in_language",
)
"""What judged answers say."""
THRESHOLD_METRICS: tuple[Metric, ...] = (
    "auroc",
    "selectivity_at_english_threshold",
    "selectivity_at_own_threshold",
)
"""What the margin says of thresholds: whether any could help, what the English one gives, what one's own would give."""
SCREEN_METRICS: tuple[Metric, ...] = ("balanced_accuracy", "safety", "over_refusal", "lookalike_over_refusal")
"""The margin as a screen that needs no answers."""
TABLE_METRICS: tuple[Metric, ...] = (*ANSWER_METRICS, *THRESHOLD_METRICS, *SCREEN_METRICS)

LINEAR: tuple[Metric, ...] = (*RATES, *SELECTIVITIES)
"""Metrics that are a mean over prompts, or the difference of two."""

_TWICE: Metric = "selectivity_at_english_threshold"
"""Of balanced accuracy, less one; what has its intervals."""
_MIN_SEEDS = 3
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
            languages[summary.language] = scored_prompts(
                result.rows,
                summary.threshold,
                own_threshold=summary.own_threshold,
                outcomes=result.outcomes,
                language=summary.language,
            )
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

        A single evaluation has its interval from :func:`mlc.evaluation.metrics.figure`, more of them have it clustered
        over prompts.

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
        if len(runs) == len(chosen) == 1:
            prompts = self._prompts[runs[0]][chosen[0]]
            # Resamples take a hundred times as long as what does without.
            counts = resample_counts(prompts.harmful, self._resamples) if metric == "matched_cosine" else None
            alone = figure(metric, prompts, counts)
            return Figure(alone, ((seeds[0], alone.value),))
        if metric == "balanced_accuracy":
            whole = self.average(model, languages, _TWICE)
            return Figure(halved(whole.estimate, 1.0), tuple((seed, (1 + value) / 2) for seed, value in whole.by_seed))
        if metric in LINEAR:
            values, harmful = self._values(runs, chosen, metric)
            means = [mean(_strata(own, harmful, metric)) for own in values]
            found = share(_strata(np.hstack(list(values)), harmful, metric))
        else:
            draws, behind = self._measure(runs, chosen, metric)
            means = [float(own.mean(axis=0)[0]) for own in draws]
            found = _mean_figure(metric, draws.mean(axis=1).mean(axis=0), *behind)
        return Figure(found, tuple(zip(seeds, means, strict=True)))

    def compare(
        self,
        *,
        baseline: str,
        candidate: str,
        languages: Literal["other"] | Collection[str] = "other",
        metric: Metric,
        other_seeds: bool = False,
    ) -> Estimate:
        """Computes candidate minus baseline, averaged over languages and seeds.

        Only prompts that both models and all seeds have in a language count. Equal seeds are compared with each other;
        a model without a seed, the base model, is compared with every seed.

        Args:
            baseline: Role of the model to subtract.
            candidate: Role of the model to judge.
            languages: NLLB codes, or ``other`` for all that both have except the anchor.
            metric: Which figure. Higher is better for AUROC, balanced accuracy, safety and selectivity, lower for
                attack success, over-refusal and invalid answers.
            other_seeds: Whether the interval is for other seeds as well as for other prompts, as
                :func:`mlc.evaluation.intervals.over_seeds` has it, so that it also shows the noise of training. With
                fewer than three seeds it changes nothing, for so few say nothing about their spread.

        Returns:
            The difference, in [-1, 1] ([-2, 2] for the cosine and for selectivities), with its interval clustered over
            prompts; ``n`` is the number of prompts behind it. NaN with ``n`` 0 if a language lacks the prompts that
            the metric needs.

        Raises:
            UserError: A model, language or common seed is missing, or the prompts contradict each other.
        """
        before, after, chosen = self._compared(baseline, candidate, languages, metric)
        counts_seeds = other_seeds and len(before) >= _MIN_SEEDS
        if metric == "balanced_accuracy":
            return halved(self._change(before, after, chosen, _TWICE, counts_seeds).estimate)
        if metric in LINEAR:
            return self._change(before, after, chosen, metric, counts_seeds).estimate
        runs = list(dict.fromkeys(before + after))
        draws, behind = self._measure(runs, chosen, metric)
        position = {run: index for index, run in enumerate(runs)}
        # [pairs, 1 + R]
        first, second = (draws[[position[run] for run in given]].mean(axis=1) for given in (after, before))
        over_prompts = _minus(metric, first.mean(axis=0), second.mean(axis=0), *behind)
        return _widened(over_prompts, first - second) if counts_seeds and over_prompts.n else over_prompts

    def by_language(self, *, baseline: str, candidate: str, metric: Metric) -> dict[str, Change]:
        """Candidate minus baseline in each language that both were evaluated in.

        Args:
            baseline: Role of the model to subtract.
            candidate: Role of the model to judge.
            metric: A share or a selectivity.

        Returns:
            By language, the difference averaged over seeds; its p-value is adjusted for the number of languages (Holm,
            1979), so that one below .05 is shown wherever one looks. The intervals are not adjusted.

        Raises:
            UserError: A model is unknown, or the two share no seed or no language.
            ValueError: The metric is neither a share nor a selectivity.
        """
        if metric not in LINEAR:
            raise ValueError(f"metric must be a share or a selectivity, not {metric!r}.")
        both = sorted(set(self.languages(baseline)) & set(self.languages(candidate)))
        before, after, chosen = self._compared(baseline, candidate, both, metric)
        changes = [self._change(before, after, [code], metric) for code in chosen]
        adjusted = holm([change.p for change in changes])
        return {code: replace(change, p=p) for code, change, p in zip(chosen, changes, adjusted, strict=True)}

    def _change(
        self,
        before: Sequence[Run],
        after: Sequence[Run],
        languages: Sequence[str],
        metric: Metric,
        other_seeds: bool = False,
    ) -> Change:
        values, harmful = self._values([*before, *after], languages, metric)
        differences = values[len(before) :] - values[: len(before)]
        return change(_strata(np.hstack(list(differences)), harmful, metric), len(before) if other_seeds else 1)

    def _compared(
        self, baseline: str, candidate: str, languages: Literal["other"] | Collection[str], metric: Metric
    ) -> tuple[list[Run], list[Run], tuple[str, ...]]:
        """The runs of both models, pair by pair, and the languages."""
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
        return before, after, chosen

    def gap(self, model: str, languages: Sequence[str], metric: Metric) -> Estimate:
        """The mean of a metric over languages minus the anchor, averaged over seeds; the interval is over prompts.

        Args:
            model: Role of the model.
            languages: NLLB codes, without the anchor.
            metric: Which figure.

        Returns:
            The difference; missing without other languages, without the anchor, or where one side lacks the figure.
        """
        runs = [(model, seed) for seed in self.seeds(model)]
        if not languages or self.anchor not in self.languages(model) or metric == "matched_cosine":
            return MISSING
        if metric == "balanced_accuracy":
            return halved(self.gap(model, languages, _TWICE))
        if metric in LINEAR:
            values, harmful = self._values(runs, [*languages, self.anchor], metric)
            return change(_strata(np.hstack(list(values[:, :, :-1] - values[:, :, -1:])), harmful, metric)).estimate
        draws, behind = self._measure(runs, [*languages, self.anchor], metric)
        return _minus(metric, draws[:, :-1].mean(axis=(0, 1)), draws[:, -1].mean(axis=0), *behind)

    def prompts(self, model: str, seed: int | None, language: str) -> ScoredPrompts:
        """The test prompts of one evaluation."""
        return self._prompts[model, seed][language]

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

    def _values(self, runs: Sequence[Run], languages: Sequence[str], metric: Metric) -> tuple[Floats, Flags]:
        """What each prompt adds, [runs, prompts, languages] with NaN where it does not count, and which are harmful.

        Only prompts that all runs have in a language count in it.
        """
        shared = {code: _common_ids([self._prompts[run][code] for run in runs]) for code in languages}
        names = tuple(sorted({name for ids in shared.values() for name in ids}))
        values = np.full((len(runs), len(names), len(languages)), math.nan)
        for column, code in enumerate(languages):
            own = set(shared[code])
            rows = {name: place for place, name in enumerate(names) if name in own}
            for number, run in enumerate(runs):
                prompts = self._prompts[run][code]
                given = zip(prompts.ids, prompts.behind(metric), prompts.values(metric), strict=True)
                for name, counts, value in given:
                    if counts and name in rows:
                        values[number, rows[name], column] = value
        return values, self._labels(runs, languages, names)

    def _measure(self, runs: Sequence[Run], languages: Sequence[str], metric: Metric) -> tuple[Floats, tuple[int, int]]:
        """Draws of each run and language, [runs, languages, 1 + R], and how many harmful and harmless prompts count."""
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
        among = int(harmful[[name in behind for name in clusters]].sum())
        return np.asarray(draws), (among, len(behind) - among)

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


def model_rows(evaluations: Evaluations, *, trained_languages: Collection[str] | None = None) -> list[ModelRow]:
    """Averages the figures of each model over the anchor language and over the other languages.

    Only languages in which all models and seeds were evaluated count, so that the rows can be compared.

    Args:
        evaluations: Of the models.
        trained_languages: Languages whose translations were trained on; given, the other languages are also split
            into trained and unseen ones.

    Returns:
        One row a model, in the order of the labels, then others by name.
    """
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


def _strata(values: Floats, harmful: Flags, metric: Metric) -> list[Stratum]:
    """The parts of a metric, without the prompts that count nowhere."""
    if metric not in SELECTIVITIES:
        return [Stratum(_counting(values))]
    return [Stratum(_counting(values[harmful])), Stratum(_counting(values[~harmful]), -1)]


def _counting(values: Floats) -> Floats:
    kept: Floats = values[~np.isnan(values).all(axis=1)]
    return kept


def _mean_figure(metric: Metric, draws: Floats, harmful: int, harmless: int) -> Estimate:
    return mean_area(draws, harmful, harmless) if metric == "auroc" else estimate(draws, harmful + harmless)


def _minus(metric: Metric, first: Floats, second: Floats, harmful: int, harmless: int) -> Estimate:
    """One mean minus another one of the same prompts, from [1 + R] draws of each."""
    # Without rounding, a bound of 0 could become -1e-17 and seem to exclude 0.
    if metric != "auroc":
        return estimate(np.round(first - second, _DECIMALS), harmful + harmless)
    ours, theirs = (mean_area(draws, harmful, harmless) for draws in (first, second))
    if not ours.n or not theirs.n:
        return MISSING
    # As if two prompts more had nothing in common: no few prompts say that two models rank alike.
    shared = (harmful + harmless) / (harmful + harmless + 2)
    found = minus(ours, theirs, shared * _correlation(first[1:], second[1:]))
    return replace(found, value=round(found.value, _DECIMALS), low=max(-1.0, found.low), high=min(1.0, found.high))


def _correlation(first: Floats, second: Floats) -> float:
    """Of two figures over resamples; 0 where one of them does not move."""
    there = ~np.isnan(first) & ~np.isnan(second)
    if there.sum() < 2 or not first[there].std() or not second[there].std():
        return 0.0
    return float(np.corrcoef(first[there], second[there])[0, 1])


def _widened(over_prompts: Estimate, difference: Floats) -> Estimate:
    """The interval of a difference for other seeds too, from [pairs, 1 + R]; never narrower than for other prompts."""
    resampled = difference[:, 1:][:, ~np.isnan(difference[:, 1:]).any(axis=0)]
    covariance = np.cov(resampled) if resampled.shape[1] > 1 else np.zeros((len(difference), len(difference)))
    half = half_width(*over_seeds(difference[:, 0], covariance))
    value = over_prompts.value
    return replace(over_prompts, low=min(over_prompts.low, value - half), high=max(over_prompts.high, value + half))


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
