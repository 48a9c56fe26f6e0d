"""What a gate is worth in a language whose labels it has not: margins of prompts that it was not fitted on.

N prompts in the anchor language, M of their translations into another one, H hidden size.
"""

import math
from collections.abc import Mapping
from statistics import fmean

import torch
from torch import Tensor

from mlc.errors import UserError
from mlc.evaluation.metrics import auroc
from mlc.gating.fitting import fit_score
from mlc.gating.reading import Place, Read
from mlc.gating.thresholds import ENGLISH_THRESHOLD, matched_threshold

FOLDS = 5
"""Parts of the prompts, each scored by what was fitted on the others; fewer where a class has fewer prompts."""


def _places_in_class(harmful_N: Tensor) -> Tensor:
    """[N] int64: how many prompts of its class stand before each."""
    harmful_N = harmful_N.bool()
    return torch.where(harmful_N, harmful_N.cumsum(0), (~harmful_N).cumsum(0)) - 1


def sample_of(harmful_N: Tensor, count: int) -> list[int]:
    """Places of the first prompts, as many of one class as of the other as far as there are any.

    Args:
        harmful_N: bool.
        count: How many at most.
    """
    order = _places_in_class(harmful_N).argsort(stable=True)
    return sorted(order[:count].tolist())


def cross_margins(states: Mapping[str, Read], harmful_N: Tensor, *, rank: int, ridge: float) -> dict[str, Tensor]:
    """How far prompts and their translations lie above thresholds by shares, by classifiers fitted on neither.

    A score has no zero of its own in a language that it was not fitted in: each classifier has its own threshold there,
    set as that of the gate will be. The prompts of a class go to the folds one after another, so that nothing is drawn.
    Where a class has one prompt only, none can be left out, and all are fitted on.

    Args:
        states: By NLLB code; the first language, with all N prompts in order, is the one that it is fitted in.
        harmful_N: bool.
        rank: As in :func:`mlc.gating.fitting.fit_score`, as is the following.
        ridge: Above 0.

    Returns:
        [M] float64 by NLLB code.

    Raises:
        UserError: As of :func:`mlc.gating.fitting.fit_score`.
    """
    own = next(iter(states.values())).states_MH
    count = min(FOLDS, int(harmful_N.sum()), int((~harmful_N).sum()))
    folds_N = _places_in_class(harmful_N) % max(count, 1)
    margins = {code: torch.zeros(len(read.rows_M), dtype=torch.float64) for code, read in states.items()}
    for fold in range(count):
        aside_N = folds_N == fold
        fitted_N = ~aside_N if count > 1 else aside_N
        score = fit_score(own[fitted_N], harmful_N[fitted_N], rank=rank, ridge=ridge)
        english_N = score.of(own)
        for number, (code, read) in enumerate(states.items()):
            scores_M, aside_M, fitted_M = score.of(read.states_MH), aside_N[read.rows_M], fitted_N[read.rows_M]
            threshold = ENGLISH_THRESHOLD
            if number and bool(fitted_M.any()):
                threshold = matched_threshold(scores_M[fitted_M], english_N[read.rows_M[fitted_M]])
            margins[code][aside_M] = scores_M[aside_M] - threshold
    return margins


def separations(
    margins: Mapping[str, Tensor], states: Mapping[str, Read], harmful_N: Tensor
) -> dict[str, float | None]:
    """AUROC of margins, or of scores, by language, None where a class has none.

    Args:
        margins: [M] by NLLB code.
        states: What they are of.
        harmful_N: bool.
    """
    found: dict[str, float | None] = {}
    for code, read in states.items():
        harmful_M = harmful_N[read.rows_M]
        value = auroc(margins[code][harmful_M].numpy(), margins[code][~harmful_M].numpy())
        found[code] = None if math.isnan(value) else value
    return found


def best_place(states: Mapping[Place, Mapping[str, Read]], harmful_N: Tensor, *, rank: int, ridge: float) -> Place:
    """The place at which the labels tell most about translations of prompts that were not fitted on.

    Args:
        states: By place what :func:`cross_margins` is given; the first of equally good ones counts.
        harmful_N: bool.
        rank: As in :func:`cross_margins`, as is the following.
        ridge: Above 0.

    Returns:
        The one with the highest mean AUROC over the other languages that have both classes, or with that of the first
        language where no other one has.

    Raises:
        UserError: At no place can a score be fitted.
    """
    figures: dict[Place, float] = {}
    problems = []
    for place, by_code in states.items():
        try:
            found = separations(cross_margins(by_code, harmful_N, rank=rank, ridge=ridge), by_code, harmful_N)
        except UserError as problem:
            problems.append(problem)
            continue
        first, *others = found.values()
        figures[place] = fmean([value for value in others if value is not None] or [first or 0.0])
    if not figures:
        raise problems[0]
    return max(figures, key=lambda place: figures[place])
