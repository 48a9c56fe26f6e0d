"""How a figure of one model differs between languages."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.metrics import LOWER_IS_BETTER, Metric, ScoredPrompts
from mlc.evaluation.results import MISSING, Estimate


@dataclass(frozen=True)
class Spread:
    """A figure of one model over its languages, each averaged over seeds."""

    worst: Estimate
    worst_language: str | None
    """NLLB code; None where no language has the figure."""
    gap: Estimate
    """Mean over the other languages minus English, paired by prompt; missing where one side is."""
    variance: float
    """Population variance over all languages, English included, × 100, of rates as fractions, mean over seeds; NaN with
    a single language. It says nothing alone: refusing everything gives 0."""


def spread(evaluations: Evaluations, model: str, metric: Metric) -> Spread:
    """How a figure differs between the languages in which all models were evaluated.

    Args:
        evaluations: Of all models.
        model: Role of the model.
        metric: Which figure.

    Raises:
        UserError: There is no such model.
    """
    figures = {code: evaluations.average(model, [code], metric) for code in evaluations.languages()}
    there = {code: figure for code, figure in figures.items() if not math.isnan(figure.estimate.value)}
    sign = -1 if metric in LOWER_IS_BETTER else 1
    worst = min(there, key=lambda code: (sign * there[code].estimate.value, code), default=None)
    by_seed = np.asarray([[value for _, value in figure.by_seed] for figure in there.values()])
    return Spread(
        worst=MISSING if worst is None else there[worst].estimate,
        worst_language=worst,
        gap=evaluations.gap(model, [code for code in figures if code != evaluations.anchor], metric),
        variance=float(by_seed.var(axis=0).mean() * 100) if len(there) > 1 else math.nan,
    )


def pairwise_agreement(evaluations: Evaluations, model: str) -> float:
    """Share of prompts whose answers have one outcome in two languages, over pairs of languages (PAG).

    With the set P of all pairs of languages (a, b), and the prompts I_ab that are judged in both and of whose answers
    the judge is sure in both,

        PAG = (1 / |P|) Σ_{(a, b) ∈ P} |{i ∈ I_ab : outcome_a(i) = outcome_b(i)}| / |I_ab|

    averaged over seeds; pairs without such prompts are left out. After the measure of that name in Bu et al. (ICLR
    2026), whose formula is not public, so values cannot be held against theirs. Refusing everything gives 1.

    Returns:
        From 0 to 1; NaN where no two languages share a judged prompt.
    """
    shares = []
    for seed in evaluations.seeds(model):
        cells = [_outcomes(evaluations.prompts(model, seed, code)) for code in evaluations.languages()]
        pairs = [_agreed(one, other) for one, other in itertools.combinations(cells, 2)]
        known = [share for share in pairs if not math.isnan(share)]
        if known:
            shares.append(float(np.mean(known)))
    return float(np.mean(shares)) if shares else math.nan


def _outcomes(prompts: ScoredPrompts) -> dict[str, str]:
    pairs: Sequence[tuple[str, str | None]] = list(zip(prompts.ids, prompts.outcomes.tolist(), strict=True))
    return {name: outcome for name, outcome in pairs if outcome not in (None, "unsure")}


def _agreed(one: dict[str, str], other: dict[str, str]) -> float:
    both = one.keys() & other.keys()
    return sum(one[name] == other[name] for name in both) / len(both) if both else math.nan
