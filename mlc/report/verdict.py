"""The sentence at the top of a report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate
from mlc.report.data import Gate
from mlc.report.wording import check_place, count, difference, direction, language_name, metric_name

_BESIDE: tuple[tuple[str, Metric], ...] = (
    ("attack success", "attack_success"),
    ("over-refusal", "harmless_refused"),
    ("invalid answers to harmless prompts", "harmless_invalid"),
    ("margin AUROC", "auroc"),
    ("margin selectivity at the {anchor} threshold", "selectivity_at_english_threshold"),
    ("margin selectivity at the languages' own thresholds", "selectivity_at_own_threshold"),
)


@dataclass(frozen=True)
class Verdict:
    """What the numbers say, in words."""

    sentence: str
    tone: Literal["better", "worse", "unclear"]
    beside: str
    """What happened to the other figures; empty where there is nothing to compare."""
    controls: str = ""
    """Which of its controls the candidate passed; empty where it has none, or there is nothing to compare."""


def reach(evaluations: Evaluations) -> tuple[tuple[str, ...], str]:
    """The languages that the verdict is about, and how to say it: the others, or the anchor where it is alone."""
    languages = evaluations.languages()
    other = tuple(code for code in languages if code != evaluations.anchor)
    if other:
        return other, f"in {count(len(other), 'other language')}"
    return languages, f"in {language_name(evaluations.anchor)}, the only language"


def verdict(
    evaluations: Evaluations, pair: tuple[str, str] | None, controls: Mapping[str, str] | None = None
) -> Verdict:
    """Says in one sentence whether the candidate separates harmful from harmless prompts better than the baseline.

    It follows the interval of one difference alone: in selectivity where answers were judged, else in the AUROC of the
    margin. Above zero is better, below is worse, else unclear.

    Args:
        evaluations: Of all models.
        pair: The candidate, and the model that it is held against; None where there is nothing to compare.
        controls: What the candidate's controls are called, by name; whether they were measured or not.
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
    sentence, tone = _sentence(
        gain, _name(evaluations, metric), evaluations.label(candidate), evaluations.label(baseline), basis
    )
    passed = _passed(evaluations, candidate, languages, controls or {}, metric)
    return Verdict(sentence, tone, _beside(evaluations, pair, languages, metric), passed)


def _name(evaluations: Evaluations, metric: Metric) -> str:
    name = metric_name(metric, evaluations.anchor)
    return name[0].lower() + name[1:]


def _leading(evaluations: Evaluations, pair: tuple[str, str], languages: tuple[str, ...]) -> Metric:
    """Selectivity, where answers of both models were judged in all languages."""
    judged = [evaluations.average(model, languages, "selectivity").estimate.n for model in pair]
    return "selectivity" if all(judged) else "auroc"


def _passed(
    evaluations: Evaluations, candidate: str, languages: tuple[str, ...], controls: Mapping[str, str], metric: Metric
) -> str:
    """Says which controls the candidate beats: the interval of the difference in the leading figure is above zero."""
    told: dict[str, list[str]] = {"passed": [], "not passed": [], "not in this run": []}
    for name, label in controls.items():
        if name not in evaluations.models:
            told["not in this run"].append(label)
            continue
        gain = evaluations.compare(baseline=name, candidate=candidate, languages=languages, metric=metric)
        shown = "passed" if direction(gain) > 0 else "not passed"
        told[shown].append(
            label if math.isnan(gain.value) else f"{label} ({difference(gain)} {_name(evaluations, metric)})"
        )
    parts = [f"{shown}: {'; '.join(labels)}" for shown, labels in told.items() if labels]
    return f"Controls of {evaluations.label(candidate)} {'. Controls '.join(parts)}." if parts else ""


def gate_sentence(gate: Gate) -> str:
    """Says whether the candidate may be released by the gate's policy, and if not, what stands against it and where."""
    failed = [row for row in gate.checks if not row["passed"]]
    if gate.passed:
        return f"May be released, by the policy {gate.policy}: {count(len(gate.checks), 'check')} of the gate passed."
    places: dict[str, list[str]] = {}
    for row in failed:
        places.setdefault(row["name"], []).append(check_place(row))
    told = "; ".join(f"{name} ({', '.join(where)})" for name, where in places.items())
    return (
        f"May not be released, by the policy {gate.policy}: {len(failed)} of {count(len(gate.checks), 'check')} of the "
        f"gate failed: {told}."
    )


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

    anchor = evaluations.anchor
    parts = [
        (name.format(anchor=language_name(anchor)), changed(languages, metric))
        for name, metric in _BESIDE
        if metric != leading
    ]
    if anchor in evaluations.languages() and languages != (anchor,):
        figure = "selectivity" if leading == "selectivity" else "margin AUROC"
        parts.append((f"{figure} in {language_name(anchor)}", changed((anchor,), leading)))
    told = [f"{name} {difference(change)}" for name, change in parts if not math.isnan(change.value)]
    names = f"{evaluations.label(candidate)} minus {evaluations.label(baseline)}"
    return f"Beside it, {names}: {', '.join(told)}." if told else ""
