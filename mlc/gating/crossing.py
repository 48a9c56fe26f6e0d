"""What a gate is worth in a language whose labels it has not: scores of prompts that it was not fitted on.

N prompts in the anchor language, M of their translations into another one, H hidden size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.evaluation.metrics import auroc
from mlc.gating.fitting import fit_score

Place = tuple[int, Pool]
"""Where a prompt is read: the index of the hidden state, and which tokens stand for the prompt."""
FOLDS = 5
"""Parts of the prompts, each scored by what was fitted on the others; fewer where a class has fewer prompts."""


@dataclass(frozen=True)
class Read:
    """States of prompts in one language."""

    rows_M: Tensor
    """int64: which of the N prompts each one is."""
    states_MH: Tensor

    def among(self, shown: Sequence[int]) -> "Read":
        """The same, if only these of the N prompts are counted, in this order; all of its own are among them."""
        return Read(torch.searchsorted(torch.tensor(shown), self.rows_M), self.states_MH)


def joined(parts: Sequence[Read]) -> Read:
    """Different prompts in one language, in the order of the N prompts.

    Args:
        parts: At least one.
    """
    rows = torch.cat([part.rows_M for part in parts])
    order = rows.argsort()
    return Read(rows[order], torch.cat([part.states_MH for part in parts])[order])


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


def cross_scores(states: Mapping[str, Read], harmful_N: Tensor, *, rank: int, ridge: float) -> dict[str, Tensor]:
    """Scores of prompts and of their translations by classifiers that were fitted on neither.

    The prompts of a class go to the folds one after another, so that nothing is drawn. Where a class has one prompt
    only, none can be left out, and the scores are those of a classifier of all.

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
    scores = {code: torch.zeros(len(read.rows_M), dtype=torch.float64) for code, read in states.items()}
    for fold in range(count):
        aside_N = folds_N == fold
        fitted_N = ~aside_N if count > 1 else aside_N
        score = fit_score(own[fitted_N], harmful_N[fitted_N], rank=rank, ridge=ridge)
        for code, read in states.items():
            aside_M = aside_N[read.rows_M]
            scores[code][aside_M] = score.of(read.states_MH[aside_M])
    return scores


def separations(scores: Mapping[str, Tensor], states: Mapping[str, Read], harmful_N: Tensor) -> dict[str, float | None]:
    """AUROC of scores by language, None where a class has none.

    Args:
        scores: [M] by NLLB code.
        states: What they are of.
        harmful_N: bool.
    """
    found: dict[str, float | None] = {}
    for code, read in states.items():
        harmful_M = harmful_N[read.rows_M]
        value = auroc(scores[code][harmful_M].numpy(), scores[code][~harmful_M].numpy())
        found[code] = None if math.isnan(value) else value
    return found


def best_place(states: Mapping[Place, Mapping[str, Read]], harmful_N: Tensor, *, rank: int, ridge: float) -> Place:
    """The place at which the labels tell most about translations of prompts that were not fitted on.

    Args:
        states: By place what :func:`cross_scores` is given; the first of equally good ones counts.
        harmful_N: bool.
        rank: As in :func:`cross_scores`, as is the following.
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
            found = separations(cross_scores(by_code, harmful_N, rank=rank, ridge=ridge), by_code, harmful_N)
        except UserError as problem:
            problems.append(problem)
            continue
        first, *others = found.values()
        figures[place] = fmean([value for value in others if value is not None] or [first or 0.0])
    if not figures:
        raise problems[0]
    return max(figures, key=lambda place: figures[place])
