"""MPO: the reward gap of translated answers is drawn to that of the English ones, which stay where they are.

"MPO: Multilingual Safety Alignment via Reward Gap Optimization", ACL 2025, arXiv 2505.16869.

Shapes: N pairs of a prompt and a translation, H hidden size.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from mlc.losses.finite import require_finite


@dataclass(frozen=True)
class RewardGapLoss:
    """Loss of each pair and what to watch beside it."""

    loss: Tensor
    """[N] with gradient. The caller reduces."""
    gap: Tensor
    """[N] detached: reward gap of the translation, in nats a token."""
    retention: Tensor
    """[N] detached: squared distance of the English state from that of the reference, before its weight."""


def reward_gap_loss(
    gaps: Tensor,
    reference_gaps: Tensor,
    states: Tensor,
    reference_states: Tensor,
    *,
    beta: float = 1.0,
    retention: float = 1.0,
) -> RewardGapLoss:
    r"""Squared difference of reward gaps, and what keeps English where it is.

    The reward gap of a prompt x with a chosen and a rejected answer is
    :math:`RG(x, y_w, y_l) = \log\pi(y_w|x)/|y_w| - \log\pi(y_l|x)/|y_l|`, without a reference model in it. The loss of
    a pair of an English prompt (the dominant language, d) and a translation (t) is

    .. math:: (\beta\, RG_\theta^t - RG_{ref}^d)^2 + w\, \lVert h_\theta^d - h_{ref}^d \rVert_2^2.

    The paper weighs both parts alike (w = 1). Which hidden state h is, is our reading: that of the last token of the
    English prompt at the last layer. The reference is the model before training; nothing of it has a gradient.

    Args:
        gaps: [N] with gradient: those of the translations.
        reference_gaps: [N] of their English prompts with their English answers, by the reference.
        states: [N, H] with gradient: of the English prompts.
        reference_states: [N, H] of the same prompts, by the reference.
        beta: :math:`\beta > 0`; the paper takes 1.0 to 1.5.
        retention: w, at least 0; with 0 the states are not looked at.

    Raises:
        ValueError: A shape or a weight is wrong, or a gap is not finite.
    """
    if gaps.ndim != 1 or gaps.shape != reference_gaps.shape:
        raise ValueError(f"gaps must both be [N], not {list(gaps.shape)} and {list(reference_gaps.shape)}.")
    if states.ndim != 2 or states.shape != reference_states.shape or len(states) != len(gaps):
        raise ValueError(
            f"states must both be [{len(gaps)}, H], not {list(states.shape)} and {list(reference_states.shape)}."
        )
    if not 0 < beta < math.inf or not 0 <= retention < math.inf:
        raise ValueError(f"beta must be above 0 and retention at least 0, both finite, not {beta} and {retention}.")
    require_finite(gaps, "gaps")
    require_finite(reference_gaps, "gaps of the reference")
    loss = (beta * gaps - reference_gaps.detach()).square()
    if not retention:
        return RewardGapLoss(loss, gaps.detach(), gaps.new_zeros(gaps.shape))
    kept = (states.float() - reference_states.detach().float()).square().sum(dim=1)
    require_finite(kept, "states and the squared distances between them")
    return RewardGapLoss(loss + retention * kept.to(loss.dtype), gaps.detach(), kept.detach())
