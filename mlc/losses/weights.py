"""How much each language of each prompt counts in a loss."""

from collections.abc import Sequence

import torch
from torch import Tensor


def weights_of(
    shape: Sequence[int], like: Tensor, mask: Tensor | None, language_weights: Tensor | None, row_weights: Tensor | None
) -> Tensor:
    """The product of a mask and of weights; constants, which no gradient reaches.

    Args:
        shape: B and L.
        like: Whose device and precision they take; float64 stays float64, anything else becomes float32.
        mask: [B, L] bool, False for languages that a prompt lacks.
        language_weights: [L] finite, at least 0.
        row_weights: [B, L] finite, at least 0.

    Returns:
        [B, L]; 0 for rows that do not count.

    Raises:
        ValueError: A shape or a weight is wrong.
    """
    size = torch.Size(shape)
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    if mask is not None and (mask.shape != size or mask.dtype != torch.bool):
        raise ValueError(f"mask must be bool {list(size)}, not {mask.dtype} {list(mask.shape)}.")
    weights = torch.ones(size, dtype=dtype, device=like.device) if mask is None else mask.to(like.device, dtype)
    for name, factor, wanted in (
        ("language_weights", language_weights, size[1:2]),
        ("row_weights", row_weights, size),
    ):
        if factor is None:
            continue
        if factor.shape != wanted:
            raise ValueError(f"{name} must be {list(wanted)}, not {list(factor.shape)}.")
        factor = factor.detach().to(like.device, dtype)
        if not bool(((factor >= 0) & torch.isfinite(factor)).all()):
            raise ValueError(f"{name} must be finite and at least 0; the smallest is {float(factor.min())}.")
        weights = weights * factor
    return weights


def mean_over_translations(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of a prompt's translations.

    Args:
        values: [B, L - 1], one for each translation; anything where it does not count.
        weights: [B, L], English first.

    Returns:
        [B]; 0, without a gradient, for prompts without English or without a translation.
    """
    pairs = weights[:, :1] * weights[:, 1:]
    total = pairs.sum(dim=1)
    counted = torch.where(pairs > 0, values, 0.0)
    return (pairs * counted).sum(dim=1) / torch.where(total > 0, total, 1.0)


def mean_over_prompts(
    losses: Tensor, mask: Tensor, language_weights: Tensor | None, row_weights: Tensor | None
) -> Tensor:
    r"""Mean loss of prompts, each of which counts as much as its translations do in the mean.

    Where the loss of a prompt is a weighted mean over its translations, weights say how much one of them counts beside
    the others of the same prompt; a prompt with a single translation would count alike whatever its weight. The factor
    of a prompt is the mean over its translations :math:`l` of :math:`w_l r_l / \bar w`, so that what comes out is the
    mean over prompts of the *unweighted* mean over translations of :math:`w_l r_l / \bar w` times their losses.

    Args:
        losses: [B] of prompts.
        mask: [B, L] bool, English first.
        language_weights: [L] :math:`w`, of which 0 is a language that is not there; they count relative to
            :math:`\bar w`, the mean over the languages other than English that have a weight above 0.
        row_weights: [B, L] :math:`r`, such as the quality of translations.

    Returns:
        The plain mean, to the last bit, where nothing has a weight.
    """
    if language_weights is None and row_weights is None:
        return losses.mean()
    weights = mask[:, 1:].to(losses.dtype)
    if row_weights is not None:
        weights = weights * row_weights[:, 1:].to(weights)
    if language_weights is not None:
        others = language_weights[1:].to(weights)
        weights = weights * others / others[others > 0].mean() if bool((others > 0).any()) else 0.0 * weights
    factors = weights.sum(dim=1) / (weights > 0).sum(dim=1).clamp(min=1)
    return (losses * factors).mean()
