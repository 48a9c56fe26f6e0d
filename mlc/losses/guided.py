"""MSD: self-distillation from a teacher that sees the English prompt too, token by token.

"Multilingual Safety Alignment via Self-Distillation", arXiv 2605.02971.

Shapes: N prompts, K answer tokens, V entries of the vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlc.losses.divergence import divergence_of_entries
from mlc.losses.finite import require_finite


@dataclass(frozen=True)
class GuidedLoss:
    """Loss of a batch and what to watch beside it."""

    loss: Tensor
    """Scalar with gradient, in nats; 0 where no token counts."""
    weights: Tensor
    """[N, K] detached: weight of each token, with mean 1 over those that count; 0 for the others."""


def guided_loss(
    student: Tensor, teacher: Tensor, *, top: int = 20, tokens: Tensor | None = None, weighted: bool = True
) -> GuidedLoss:
    r"""Reverse divergence from a frozen teacher, with more weight where the teacher is sure and the student is not.

    The mean over the tokens of :math:`w_t\, KL(p_S \,\|\, p_T)`, with

    .. math:: w_t \propto \Bigl(1 - \frac{H(\mathrm{top}_K\, p_T)}{\log K}\Bigr)\,\bigl(1 - p_S(y^*_t)\bigr),

    rescaled to mean 1 over all tokens of the batch. :math:`\mathrm{top}_K` is the teacher's K likeliest tokens, scaled
    to sum 1. What :math:`y^*_t` is, is our reading: the teacher's likeliest token, whoever wrote the answer, so that a
    token weighs little once the student says it by itself. Weights are constants: no gradient reaches them. Where
    all of them vanish, all tokens weigh 1.

    Args:
        student: [N, K, V] logits with gradient: after the translation, and the answer so far.
        teacher: [N, K, V] logits of the frozen teacher for the same answer.
        top: K, at least 2; at most V of them are taken.
        tokens: [N, K] bool, False where an answer has no more tokens; None = all count.
        weighted: Whether tokens have weights; else the loss is their plain mean.

    Raises:
        ValueError: A shape or ``top`` is wrong, a logit that counts is NaN, or a divergence is infinite: the teacher
            has a logit of −∞ for a token that the student holds possible.
    """
    if student.ndim != 3 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must share a vocabulary and be [N, K, V], not {list(student.shape)} and "
            f"{list(teacher.shape)}."
        )
    if top < 2:
        raise ValueError(f"top must be at least 2, not {top}.")
    shape = student.shape[:2]
    counts = torch.ones(shape, dtype=torch.bool, device=student.device) if tokens is None else tokens
    if counts.shape != shape or counts.dtype != torch.bool:
        raise ValueError(f"tokens must be bool {list(shape)}, not {counts.dtype} {list(counts.shape)}.")
    # What does not count may be anything, and nothing may come back from it.
    log_student = student[counts].float().log_softmax(dim=-1)
    log_teacher = teacher.detach()[counts].float().log_softmax(dim=-1)
    apart = divergence_of_entries(log_student, log_teacher).sum(dim=-1)
    require_finite(apart, "logits")
    own = _weights(log_student.detach(), log_teacher, top) if weighted else torch.ones_like(apart)
    own = own.detach()
    weights = own.new_zeros(shape)
    weights[counts] = own
    return GuidedLoss((own * apart).sum() / max(len(apart), 1), weights)


def _weights(log_student: Tensor, log_teacher: Tensor, top: int) -> Tensor:
    """[M] with mean 1, from log-probabilities [M, V]."""
    count = min(top, log_teacher.shape[-1])
    likeliest, places = log_teacher.topk(count, dim=-1)
    among = likeliest.log_softmax(dim=-1)
    entropy = -(among.exp() * among.masked_fill(among == -math.inf, 0.0)).sum(dim=-1)
    sure = 1.0 - entropy / math.log(count)
    unsaid = 1.0 - log_student.gather(-1, places[:, :1]).squeeze(-1).exp()
    # Rounding may put either a little below 0.
    weights = sure.clamp(min=0.0) * unsaid.clamp(min=0.0)
    mean = weights.mean() if len(weights) else weights.sum()
    return weights / mean if float(mean) > 0 else torch.ones_like(weights)
