"""The sentence at the top of a report."""

import math
from dataclasses import dataclass
from typing import Literal

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.languages import ENGLISH
from mlc.report.wording import METRIC_NAMES, count, difference, direction

_BESIDE: tuple[tuple[str, Metric], ...] = (
    ("attack success", "attack_success"),
    ("over-refusal", "harmless_refused"),
    ("invalid answers to harmless prompts", "harmless_invalid"),
    ("margin AUROC", "auroc"),
    ("margin selectivity at the English threshold", "selectivity_at_english_threshold"),
    ("margin selectivity at the languages' own thresholds", "selectivity_at_own_threshold"),
)


@dataclass(frozen=True)
class Verdict:
    """What the numbers say, in words."""

    sentence: str
    tone: Literal["better", "worse", "unclear"]
    beside: str
    """What happened to the other figures; empty where there is nothing to compare."""


def reach(evaluations: Evaluations) -> tuple[tuple[str, ...], str]:
    """The languages that the verdict is about, and how to say it: the others, or English where it is alone."""
    languages = evaluations.languages()
    other = tuple(code for code in languages if code != ENGLISH)
    if other:
        return other, f"in {count(len(other), 'other language')}"
    return languages, "in English, the only language"


def verdict(evaluations: Evaluations, pair: tuple[str, str] | None) -> Verdict:
    """Says in one sentence whether the candidate separates harmful from harmless prompts better than the baseline.

    It follows the interval of one difference alone: in selectivity where answers were judged, else in the AUROC of the
    margin. Above zero is better, below is worse, else unclear.

    Args:
        evaluations: Of all models.
        pair: The candidate, and the model that it is held against; None where there is nothing to compare.
    """
    languages, where = reach(evaluations)
    if pair is None:
        names = " and ".join(map(evaluations.label, evaluations.models))
        return Verdict(f"Only {names} was measured, so there is no comparison to report.", "unclear", "")
    if not languages:
        return Verdict("The models share no evaluated language, so there is no comparison to report.", "unclear", "")
    candidate, baseline = pair
    metric = _leading(evaluations, pair, languages)
    gain = evaluations.compare(baseline=baseline, candidate=candidate, languages=languages, metric=metric)
    seeds = count(len(evaluations.seed_pairs(baseline, candidate)), "seed")
    basis = f"{where}, {seeds}, {count(gain.n, 'prompt')}"
    name = METRIC_NAMES[metric]
    name = name[0].lower() + name[1:]
    sentence, tone = _sentence(gain, name, evaluations.label(candidate), evaluations.label(baseline), basis)
    return Verdict(sentence, tone, _beside(evaluations, pair, languages, metric))


def _leading(evaluations: Evaluations, pair: tuple[str, str], languages: tuple[str, ...]) -> Metric:
    """Selectivity, where answers of both models were judged in all languages."""
    judged = [evaluations.average(model, languages, "selectivity").estimate.n for model in pair]
    return "selectivity" if all(judged) else "auroc"


def _sentence(
    gain: Estimate, name: str, candidate: str, other: str, basis: str
) -> tuple[str, Literal["better", "worse", "unclear"]]:
    if math.isnan(gain.value):
        return f"{candidate} and {other} cannot be compared: a class of prompts is empty.", "unclear"
    change = difference(gain).replace(" [", f" {name} [", 1)
    if direction(gain) > 0:
        return f"{candidate} is better than {other}: {change} {basis}.", "better"
    if direction(gain) < 0:
        return f"{candidate} is worse than {other}: {change} {basis}.", "worse"
    return (
        f"No difference is shown: {candidate} minus {other} is {change} {basis}, and the interval includes 0.",
        "unclear",
    )


def _beside(evaluations: Evaluations, pair: tuple[str, str], languages: tuple[str, ...], leading: Metric) -> str:
    candidate, baseline = pair

    def changed(chosen: tuple[str, ...], metric: Metric) -> Estimate:
        return evaluations.compare(baseline=baseline, candidate=candidate, languages=chosen, metric=metric)

    parts = [(name, changed(languages, metric)) for name, metric in _BESIDE if metric != leading]
    if ENGLISH in evaluations.languages() and languages != (ENGLISH,):
        name = "selectivity in English" if leading == "selectivity" else "margin AUROC in English"
        parts.append((name, changed((ENGLISH,), leading)))
    told = [f"{name} {difference(change)}" for name, change in parts if not math.isnan(change.value)]
    names = f"{evaluations.label(candidate)} minus {evaluations.label(baseline)}"
    return f"Beside it, {names}: {', '.join(told)}." if told else ""
