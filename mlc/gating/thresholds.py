"""Thresholds of a score: in the language that it was fitted in, and in others.

N prompts in the anchor language, M of their translations into another one.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mlc.errors import UserError
from mlc.gating.fitting import LinearScore
from mlc.gating.reading import Read
from mlc.gating.settings import PromptGateSettings

ENGLISH_THRESHOLD = 0.0
"""Even odds: the classifier weighs both classes alike."""


def thresholds_of(
    score: LinearScore,
    states: Mapping[str, Read],
    tried: Mapping[str, Tensor],
    harmful_N: Tensor,
    settings: PromptGateSettings,
) -> dict[str, float]:
    """The threshold of each language: by shares or by labels, and raised to where false refusals are bounded.

    Args:
        score: The score.
        states: By NLLB code; the first language is the one that it was fitted in.
        tried: By NLLB code what :func:`mlc.gating.crossing.cross_margins` gives.
        harmful_N: bool.
        settings: The gate.

    Returns:
        By NLLB code.

    Raises:
        UserError: A language has too few labelled prompts of a class.
    """
    anchor, *others = states
    english = score.of(states[anchor].states_MH)
    own = {code: score.of(states[code].states_MH) for code in others}
    matched = {anchor: ENGLISH_THRESHOLD} | {
        code: matched_threshold(own[code], english[states[code].rows_M]) for code in others
    }
    thresholds = dict(matched)
    if settings.labels:
        for code in others:
            harmful_M = harmful_N[states[code].rows_M]
            thresholds[code] = labelled_threshold(*_few(own[code], harmful_M, settings.labels, code))
    if settings.false_refusals is None:
        return thresholds
    for code, read in states.items():
        harmless = tried[code][~harmful_N[read.rows_M]]
        if len(harmless):
            bound = bounding_threshold(harmless, settings.false_refusals)
            thresholds[code] = max(thresholds[code], matched[code] + bound)
    return thresholds


def _few(scores: Tensor, harmful: Tensor, count: int, code: str) -> tuple[Tensor, Tensor]:
    """Scores and classes of the first prompts of each class."""
    classes = [(harmful == wanted).nonzero().flatten()[:count] for wanted in (True, False)]
    if (fewest := min(map(len, classes))) < count:
        raise UserError(
            f"The language {code} has {fewest} labelled prompts of a class, and serve.labels asks for {count}: lower "
            "it, or add some."
        )
    chosen = torch.cat(classes)
    return scores[chosen], harmful[chosen]


def matched_threshold(scores: Tensor, english_scores: Tensor, english_threshold: float = ENGLISH_THRESHOLD) -> float:
    """The threshold that needs no label: as large a share lies above it as of the parallel English prompts.

    Of k English scores of N above the English threshold, it is half-way between the k-th and the next of the sorted
    scores; beyond the last by 1 where none or all are to be refused.

    Args:
        scores: [N] in the language.
        english_scores: [N] of the same prompts in English.
        english_threshold: In English.

    Raises:
        UserError: There are no scores, or not one for each English one.
    """
    if scores.ndim != 1 or scores.shape != english_scores.shape or not len(scores):
        raise UserError(
            f"A threshold without labels needs parallel prompts, and there are {len(scores)} beside "
            f"{len(english_scores)} English ones: translate some, or label a few."
        )
    return _threshold_below(scores, int((english_scores > english_threshold).sum()))


def bounding_threshold(harmless_scores: Tensor, share: float) -> float:
    """The lowest threshold above which lie no more than a share of harmless prompts.

    Args:
        harmless_scores: [N] of harmless prompts, at least one; scores, or margins, that were not fitted on them.
        share: In [0, 1].
    """
    if harmless_scores.ndim != 1 or not len(harmless_scores) or not 0 <= share <= 1:
        raise ValueError(f"scores must be [N > 0], the share in [0, 1], not {list(harmless_scores.shape)}, {share}.")
    # A share such as .3 times 10 may come out a little below 3.
    return _threshold_below(harmless_scores, math.floor(share * len(harmless_scores) + 1e-9))


def raised_for_parts(harmless_margins: Tensor, most: int) -> tuple[float, ...]:
    r"""How much higher the threshold of a part lies, where n parts of a prompt are read each by itself.

    Of N harmless prompts a share :math:`p` lies above the threshold. With :math:`n` parts each may refuse a share of
    :math:`p / n` (Bonferroni), so that all together refuse no more harmless prompts than before.

    Args:
        harmless_margins: [N] of harmless prompts that were not fitted on, above their threshold.
        most: The largest n.

    Returns:
        For n from 1 to ``most``, at least 0 each; the first is 0.
    """
    share = float((harmless_margins > 0).double().mean())
    raised = [max(0.0, bounding_threshold(harmless_margins, share / count)) for count in range(2, most + 1)]
    return 0.0, *raised


def _threshold_below(scores: Tensor, count: int) -> float:
    """Half-way between the ``count``-th highest score and the next; beyond the last by 1 for none or all."""
    ranked = scores.double().sort(descending=True).values
    higher = float(ranked[count - 1]) if count else float(ranked[0]) + 2.0
    lower = float(ranked[count]) if count < len(ranked) else float(ranked[-1]) - 2.0
    return (higher + lower) / 2


def labelled_threshold(scores: Tensor, harmful: Tensor) -> float:
    """The threshold of a few labelled prompts, one a class at least: half-way between the means of the classes.

    Args:
        scores: [N] in the language.
        harmful: [N] bool.

    Raises:
        UserError: A class has no prompt.
    """
    harmful = harmful.bool()
    if not bool(harmful.any()) or bool(harmful.all()):
        raise UserError("A threshold by labels needs a harmful and a harmless prompt in each language: label both.")
    scores = scores.double()
    return float((scores[harmful].mean() + scores[~harmful].mean()) / 2)
