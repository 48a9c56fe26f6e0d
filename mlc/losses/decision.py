"""The decision itself: whether translations are as inclined to be refused as the English prompt is.

Shapes: B prompts, L languages (row 0 is English).
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from mlc.choices import Difference
from mlc.losses.finite import require_finite
from mlc.losses.weights import mean_over_translations, weights_of


@dataclass(frozen=True)
class DecisionLoss:
    """Loss of each prompt and what to watch beside it."""

    loss: Tensor
    """[B] with gradient. The caller reduces."""
    gap: Tensor
    """[B] detached: weighted mean over the translations of how far, in nats, the margin lies from the English one."""


def decision_loss(
    margins: Tensor,
    *,
    difference: Difference = "huber",
    delta: float = 1.0,
    mask: Tensor | None = None,
    language_weights: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> DecisionLoss:
    r"""Penalises translations whose refusal margin differs from that of the English prompt (ours).

    The margin :math:`m` of a prompt is the mean log-probability a token of openings of a refusal minus that of openings
    of an answer, in nats, as :func:`mlc.evaluation.scoring.score_prompts` has it. The loss of a prompt is the weighted
    mean over its translations of :math:`\rho(m_l - \mathrm{sg}\, m_0)`, where sg stops the gradient, so that English
    stays where it is. :math:`\rho(d)` is

    * ``squared``: :math:`d^2`.
    * ``huber``: :math:`d^2` up to :math:`|d| = \delta`, and :math:`2 \delta |d| - \delta^2` beyond, so that a margin
      far away does not decide alone.

    No label is read: harmful and harmless prompts are treated alike, and both belong into a batch. With harmful ones
    alone a model that refuses everything has loss 0.

    Args:
        margins: [B, L] margins, English at index 0.
        difference: Which :math:`\rho`.
        delta: :math:`\delta > 0` of ``huber``, in nats.
        mask: [B, L] bool, False for languages that a prompt lacks. A prompt without English or without a translation
            has loss 0.
        language_weights: [L] finite, at least 0: weight of each language.
        row_weights: [B, L] finite, at least 0: weight of each row, such as a translation's quality.

    Raises:
        ValueError: A shape, a weight, ``delta`` or a name is wrong, or a margin that counts is not finite.
    """
    if margins.ndim != 2 or 0 in margins.shape:
        raise ValueError(f"margins must be [B, L] with at least one of each, not {list(margins.shape)}.")
    if difference not in get_args(Difference):
        raise ValueError(f"difference must be one of {', '.join(get_args(Difference))}, not {difference!r}.")
    if not delta > 0:
        raise ValueError(f"delta must be above 0, not {delta}.")
    weights = weights_of(margins.shape, margins, mask, language_weights, row_weights)
    require_finite(margins[weights > 0], "margins")
    precise = margins.to(weights.dtype)
    # Where a row does not count there may be anything, and nothing may come back from it.
    precise = torch.where(weights > 0, precise, 0.0)
    apart = precise[:, 1:] - precise[:, :1].detach()
    far = apart.abs()
    cost = apart.square()
    if difference == "huber":
        cost = torch.where(far <= delta, cost, 2.0 * delta * far - delta**2)
    return DecisionLoss(mean_over_translations(cost, weights), mean_over_translations(far.detach(), weights))
