"""The answer itself: whether a model says after a translation what it says after the English prompt.

Shapes: B prompts, L languages (row 0 is English), K answer tokens, V entries of the vocabulary.
"""

import math
from typing import get_args

import torch
from torch import Tensor

from mlc.choices import Divergence
from mlc.losses.divergence import divergence_of_entries
from mlc.losses.finite import require_finite
from mlc.losses.weights import mean_over_translations, weights_of


def answer_loss(
    logits: Tensor,
    *,
    teacher: Tensor | None = None,
    divergence: Divergence = "forward",
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
    language_weights: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> Tensor:
    r"""Divergence between what comes next in an answer after the English prompt and after its translations (ours).

    With :math:`p_0 = p(\cdot \mid x_{en}, y_{<t})`, gradient stopped, and :math:`p_l = p(\cdot \mid x_l, y_{<t})` for
    the tokens of one answer :math:`y`, the loss of a prompt is the weighted mean over its translations of the mean over
    :math:`t` of

    * ``forward``: :math:`KL(p_0 \,\|\, p_l)`.
    * ``reverse``: :math:`KL(p_l \,\|\, p_0)`.
    * ``jsd``: :math:`\tfrac12 KL(p_0 \,\|\, q) + \tfrac12 KL(p_l \,\|\, q)`, :math:`q = (p_0 + p_l) / 2`; at most
      :math:`\log 2`.

    A teacher that sees the English prompt, and a student that sees the translation, are also in self-distillation (MSD,
    arXiv 2605.02971), where the student's answer and weights of tokens are used; and in likelihood consistency without
    safety (DCO, arXiv 2603.04678).

    **Matching the whole vocabulary teaches a model to answer translations in English**, which is what is wanted of
    refusals at most. For a decision alone, give two logits, such as a refusal margin and 0.

    Args:
        logits: [B, L, K, V] with gradient, English at index 0.
        teacher: [B, K, V] logits of another model after the English prompt; None = the English row.
        divergence: Which of them.
        tokens: [B, K] bool, False where an answer has no more tokens. A prompt without any has loss 0.
        mask: [B, L] bool, False for languages that a prompt lacks. A prompt without English or without a translation
            has loss 0.
        language_weights: [L] finite, at least 0: weight of each language.
        row_weights: [B, L] finite, at least 0: weight of each row, such as a translation's quality.

    Returns:
        [B] in nats, at least 0. No gradient reaches the teacher or the English row.

    Raises:
        ValueError: A shape, a weight or a name is wrong, a logit that counts is NaN, or a divergence is infinite: a
            token that one holds possible has a logit of −∞ on the other side.
    """
    _check(logits, teacher, divergence, tokens)
    weights = weights_of(logits.shape[:2], logits, mask, language_weights, row_weights)
    there = torch.ones(logits.shape[0], logits.shape[2], dtype=torch.bool, device=logits.device)
    there = there if tokens is None else tokens
    # What does not count may be anything, and nothing may come back from it.
    counts = (weights[:, 1:] > 0).unsqueeze(2) & (weights[:, :1] > 0).unsqueeze(2) & there.unsqueeze(1)
    student = logits[:, 1:].to(weights.dtype).masked_fill(~counts.unsqueeze(-1), 0.0).log_softmax(dim=-1)
    given = (logits[:, 0] if teacher is None else teacher).detach().to(weights.dtype)
    given = given.masked_fill(~counts.any(dim=1).unsqueeze(-1), 0.0).log_softmax(dim=-1).unsqueeze(1)
    apart = _apart(given, student, divergence).masked_fill(~counts, 0.0)
    require_finite(apart, "logits")
    mean = apart.sum(dim=2) / there.sum(dim=1, keepdim=True).clamp(min=1)
    return mean_over_translations(mean, weights)


def _check(logits: Tensor, teacher: Tensor | None, divergence: str, tokens: Tensor | None) -> None:
    if logits.ndim != 4 or 0 in logits.shape:
        raise ValueError(f"logits must be [B, L, K, V] with at least one of each, not {list(logits.shape)}.")
    if divergence not in get_args(Divergence):
        raise ValueError(f"divergence must be one of {', '.join(get_args(Divergence))}, not {divergence!r}.")
    prompts, _, length, words = logits.shape
    if teacher is not None and teacher.shape != (prompts, length, words):
        raise ValueError(
            f"teacher and student must share a vocabulary: teacher must be {[prompts, length, words]}, not "
            f"{list(teacher.shape)}."
        )
    if tokens is not None and (tokens.shape != (prompts, length) or tokens.dtype != torch.bool):
        raise ValueError(f"tokens must be bool {[prompts, length]}, not {tokens.dtype} {list(tokens.shape)}.")


def _apart(teacher: Tensor, student: Tensor, divergence: str) -> Tensor:
    """[B, L - 1, K] from log-probabilities of the teacher, [B, 1, K, V], and of the student, [B, L - 1, K, V]."""
    if divergence == "forward":
        return _divergence(teacher, student)
    if divergence == "reverse":
        return _divergence(student, teacher)
    # Where neither says anything, their mean has no gradient.
    neither = (teacher == -math.inf) & (student == -math.inf)
    middle = torch.logaddexp(teacher.masked_fill(neither, 0.0), student.masked_fill(neither, 0.0))
    middle = middle - torch.log(torch.tensor(2.0, dtype=student.dtype))
    return (_divergence(teacher, middle) + _divergence(student, middle)) / 2.0


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    return divergence_of_entries(first, second).sum(dim=-1)
