"""The sentence at the top of a report."""

import math
from dataclasses import dataclass
from typing import Literal

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.report.wording import count, difference, direction, language_name

_BESIDE: tuple[tuple[str, Metric], ...] = (
    ("over-refusal", "over_refusal"),
    ("safety rate", "safety"),
    ("balanced accuracy", "balanced_accuracy"),
)


@dataclass(frozen=True)
class Verdict:
    """What the numbers say, in words."""

    sentence: str
    tone: Literal["better", "worse", "unclear"]
    beside: str
    """What happened to the other figures; empty where there is nothing to compare."""


def reach(evaluations: Evaluations) -> tuple[tuple[str, ...], str]:
    """The languages that the verdict is about, and how to say it: the others, or the anchor where it is alone."""
    languages = evaluations.languages()
    other = tuple(code for code in languages if code != evaluations.anchor)
    if other:
        return other, f"in {count(len(other), 'other language')}"
    return languages, f"in {language_name(evaluations.anchor)}, the only language"


def verdict(evaluations: Evaluations, pair: tuple[str, str] | None) -> Verdict:
    """Says in one sentence whether the candidate separates harmful from harmless prompts better than the baseline.

    It follows the interval of the difference in AUROC alone: above zero is better, below is worse, else unclear.

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
    gain = evaluations.compare(baseline=baseline, candidate=candidate, languages=languages, metric="auroc")
    seeds = count(len(evaluations.seed_pairs(baseline, candidate)), "seed")
    basis = f"{where}, {seeds}, {count(gain.n, 'prompt')}"
    sentence, tone = _sentence(gain, evaluations.label(candidate), evaluations.label(baseline), basis)
    return Verdict(sentence, tone, _beside(evaluations, pair, languages))


def _sentence(
    gain: Estimate, candidate: str, other: str, basis: str
) -> tuple[str, Literal["better", "worse", "unclear"]]:
    if math.isnan(gain.value):
        return f"{candidate} and {other} cannot be compared: a class of prompts is empty.", "unclear"
    change = difference(gain).replace(" [", " AUROC [", 1)
    if direction(gain) > 0:
        return f"{candidate} is better than {other}: {change} {basis}.", "better"
    if direction(gain) < 0:
        return f"{candidate} is worse than {other}: {change} {basis}.", "worse"
    return (
        f"No difference is shown: {candidate} minus {other} is {change} {basis}, and the interval includes 0.",
        "unclear",
    )


def _beside(evaluations: Evaluations, pair: tuple[str, str], languages: tuple[str, ...]) -> str:
    candidate, baseline = pair

    def changed(chosen: tuple[str, ...], metric: Metric) -> Estimate:
        return evaluations.compare(baseline=baseline, candidate=candidate, languages=chosen, metric=metric)

    parts = [(name, changed(languages, metric)) for name, metric in _BESIDE]
    anchor = evaluations.anchor
    if anchor in evaluations.languages() and languages != (anchor,):
        parts.append((f"AUROC in {language_name(anchor)}", changed((anchor,), "auroc")))
    told = [f"{name} {difference(change)}" for name, change in parts if not math.isnan(change.value)]
    names = f"{evaluations.label(candidate)} minus {evaluations.label(baseline)}"
    return f"Beside it, {names}: {', '.join(told)}." if told else ""
