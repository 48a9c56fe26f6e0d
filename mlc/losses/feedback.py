"""Learning from single answers that people called good or bad, without pairs.

"KTO: Model Alignment as Prospect Theoretic Optimization", arXiv 2402.01306.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlc.losses.finite import require_finite


@dataclass(frozen=True)
class FeedbackLoss:
    """Loss of each answer and what to watch beside it."""

    loss: Tensor
    """[N] with gradient, between 0 and the weight of its class. The caller reduces."""
    rewards: Tensor
    """[N] detached: how much likelier the answer is than by the reference, in nats."""


def feedback_loss(
    rewards: Tensor,
    good: Tensor,
    reference_point: Tensor | float = 0.0,
    *,
    beta: float = 0.1,
    good_weight: float = 1.0,
    bad_weight: float = 1.0,
    row_weights: Tensor | None = None,
) -> FeedbackLoss:
    r"""Makes good answers likelier than a reference point, and bad ones less likely.

    With the reward :math:`r = \log \pi_\theta(y|x) - \log \pi_{ref}(y|x)` and the reference point z, which is how much
    likelier unrelated answers have become and has no gradient, the loss of an answer is

    .. math:: \lambda_+ (1 - \sigma(\beta (r - z))) \text{ if it is good, } \quad
        \lambda_- (1 - \sigma(\beta (z - r))) \text{ if it is bad.}

    Before the first step, where both models are one, it is half the weight. An answer that is far on its side of the
    point has next to no gradient any more.

    Args:
        rewards: [N] with gradient.
        good: [N] bool.
        reference_point: z, at least 0 as published; a number.
        beta: :math:`\beta > 0`.
        good_weight: :math:`\lambda_+`, at least 0.
        bad_weight: :math:`\lambda_-`, at least 0.
        row_weights: [N] finite, at least 0: weights of the answers, such as of their languages.

    Raises:
        ValueError: A shape or a weight is wrong, or a reward is not finite.
    """
    if rewards.ndim != 1 or good.shape != rewards.shape or good.dtype != torch.bool:
        raise ValueError(
            f"rewards must be [N] and good [N] bool, not {list(rewards.shape)} and {list(good.shape)} {good.dtype}."
        )
    if not rewards.is_floating_point():
        raise ValueError(f"rewards must be floating point, not {rewards.dtype}.")
    if not 0 < beta < math.inf or not all(0 <= weight < math.inf for weight in (good_weight, bad_weight)):
        raise ValueError(
            f"beta must be above 0 and weights at least 0, all finite, not {beta}, {good_weight}, {bad_weight}."
        )
    require_finite(rewards, "rewards")
    point = torch.as_tensor(reference_point, dtype=rewards.dtype, device=rewards.device).detach()
    if point.ndim or not bool(torch.isfinite(point)):
        raise ValueError("reference_point must be one finite number.")
    signs = torch.where(good, 1.0, -1.0).to(rewards)
    weights = torch.where(good, good_weight, bad_weight).to(rewards)
    if row_weights is not None:
        if row_weights.shape != rewards.shape or not bool((torch.isfinite(row_weights) & (row_weights >= 0)).all()):
            raise ValueError(f"row_weights must be {list(rewards.shape)}, finite and at least 0.")
        weights = weights * row_weights.detach().to(rewards)
    return FeedbackLoss(weights * torch.sigmoid(-beta * signs * (rewards - point)), rewards.detach())
