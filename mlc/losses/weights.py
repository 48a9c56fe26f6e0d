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
    weights = torch.ones(size, dtype=dtype, device=like.device) if mask is None else mask.to(dtype)
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
