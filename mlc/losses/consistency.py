"""The Multi-Lingual Consistency (MLC) loss and its anchored, sign-aware relative.

Bu et al., "Align Once, Benefit Multilingually", ICLR 2026, arXiv 2602.16660.

Shapes: B prompts, L languages (row 0 is English), D representation size.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Form = Literal["released", "paper", "cosine"]
Anchor = Literal["none", "english"]

_SPECTRAL_EPS = 1e-7
"""Eigenvalues below it count as zero: their square root passes no gradient, where it would be unbounded."""


@dataclass(frozen=True)
class ConsistencyLoss:
    """Loss of each prompt and what to watch beside it."""

    loss: Tensor
    """[B] float32, with gradient. The caller reduces."""
    singular_values: Tensor
    """[B, L], descending, detached; rows that do not count add zeros."""
    collinearity: Tensor
    """[B] in [1 / valid rows, 1], detached: the first squared singular value over the number of valid rows."""


def consistency_loss(
    z: Tensor,
    *,
    temperature: float = 0.2,
    form: Form = "released",
    signed: bool = False,
    anchor: Anchor = "none",
    mask: Tensor | None = None,
) -> ConsistencyLoss:
    r"""Penalises prompt representations that differ between the languages of one prompt.

    Rows are scaled to unit length; :math:`\sigma_1 \ge \dots \ge \sigma_L` are the singular values of a prompt's
    [L, D] matrix, so that :math:`\sum \sigma_j^2` is the number of valid rows, and a dominant
    :math:`\sigma_1` means collinear rows. Forms:

    * ``paper`` (the paper's equation): :math:`-\log \mathrm{softmax}(\sigma / \tau)_1`.
    * ``released`` (the authors' code): the same with logits :math:`\sigma_j / (\mathrm{sg}(\sigma_1)\,\tau)`, where
      sg stops the gradient. Its range is that of one minus a cosine, independent of the number of languages:
      :math:`\log L` for orthonormal rows down to :math:`\log(1 + (L-1) e^{-1/\tau})`, not zero, for collinear ones.
    * ``cosine`` (ours): mean of 1 − cos over the pairs of rows; with ``anchor="english"`` over the pairs with
      the English row only. Collinear rows give 0.

    The singular values do not see signs: in the forms ``paper`` and ``released`` **an opposite vector counts as
    consistent**. ``signed=True`` (a departure from the paper) appends one constant coordinate to every unit row
    before the singular values are taken, so that the entries g of the Gram matrix become (1 + g) / 2: opposite
    rows then count as orthogonal ones, and the gradient pulls them together. The form ``cosine`` is always signed.

    Everything is computed in float32 (float64 stays float64) from the [L, L] Gram matrix, whose eigenvalues are
    :math:`\sigma^2`; autocast is off inside.

    Args:
        z: [B, L, D] representations, English at index 0.
        temperature: :math:`\tau > 0` of the spectral forms.
        form: Which loss.
        signed: Count opposite rows as inconsistent.
        anchor: ``english`` stops the gradient through the English row, so that the other languages move
            towards it and it does not move towards them. ``none`` is the published behaviour.
        mask: [B, L] bool, False for languages that a prompt lacks. A masked batch gives exactly what the smaller
            unmasked one gives. A prompt with fewer than two valid rows, or anchored without English, has loss 0.

    Raises:
        ValueError: A shape, the temperature or a name is wrong, the batch is empty, or ``z`` is not finite.
    """
    _check(z, temperature, form, anchor, mask)
    with torch.autocast(z.device.type, enabled=False):
        rows = z if z.dtype == torch.float64 else z.float()
        if anchor == "english":
            rows = torch.cat([rows[:, :1].detach(), rows[:, 1:]], dim=1)
        valid = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if mask is None else mask
        unit = _unit_rows(rows, valid)
        gram = unit @ unit.transpose(1, 2)
        sigma = _singular_values(gram)
        if form == "cosine":
            loss = _cosine(gram, valid, anchor)
        else:
            logits = _singular_values(_with_sign(gram, valid)) if signed else sigma
            loss = _spectral(logits, valid, temperature, form)
            if anchor == "english":
                loss = torch.where(valid[:, 0], loss, 0.0)
        count = valid.sum(dim=1).clamp(min=1)
        detached = sigma.detach()
        return ConsistencyLoss(loss, detached, detached[:, 0].square() / count)


def _check(z: Tensor, temperature: float, form: str, anchor: str, mask: Tensor | None) -> None:
    if z.ndim != 3 or 0 in z.shape:
        raise ValueError(f"z must be [B, L, D] with at least one of each, not {list(z.shape)}.")
    if not z.is_floating_point():
        raise ValueError(f"z must be floating point, not {z.dtype}.")
    if not bool(torch.isfinite(z).all()):
        raise ValueError("z must be finite; it holds NaN or infinite values.")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}.")
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, not {form!r}.")
    if anchor not in get_args(Anchor):
        raise ValueError(f"anchor must be one of {', '.join(get_args(Anchor))}, not {anchor!r}.")
    if mask is not None and (mask.shape != z.shape[:2] or mask.dtype != torch.bool):
        raise ValueError(f"mask must be bool {list(z.shape[:2])}, not {mask.dtype} {list(mask.shape)}.")


def _unit_rows(rows: Tensor, valid: Tensor) -> Tensor:
    kept = torch.where(valid.unsqueeze(-1), rows, 0.0)
    squared = kept.square().sum(dim=-1, keepdim=True)
    # A zero row stays zero and passes no gradient; the inner `where` keeps sqrt away from 0.
    nonzero = squared > 0
    norm = torch.where(nonzero, squared, 1.0).sqrt()
    return torch.where(nonzero, kept / norm, 0.0)


def _singular_values(gram: Tensor) -> Tensor:
    # Gradient through eigenvalues alone is bounded even where they coincide; only the square root at 0 is not.
    eigenvalues = torch.linalg.eigvalsh(gram).flip(-1)
    positive = eigenvalues > _SPECTRAL_EPS
    return torch.where(positive, torch.where(positive, eigenvalues, 1.0).sqrt(), 0.0)


def _with_sign(gram: Tensor, valid: Tensor) -> Tensor:
    both = valid.unsqueeze(2) & valid.unsqueeze(1)
    return torch.where(both, (gram + 1.0) / 2.0, 0.0)


def _spectral(sigma: Tensor, valid: Tensor, temperature: float, form: str) -> Tensor:
    scale = sigma[:, :1].detach().clamp(min=_SPECTRAL_EPS**0.5) if form == "released" else 1.0
    logits = sigma / (scale * temperature)
    # With k valid rows only the first k singular values exist; the others are zeros that padding added.
    positions = torch.arange(sigma.shape[1], device=sigma.device)
    exists = positions < valid.sum(dim=1, keepdim=True).clamp(min=1)
    logits = logits.masked_fill(~exists, float("-inf"))
    return torch.logsumexp(logits, dim=1) - logits[:, 0]


def _cosine(gram: Tensor, valid: Tensor, anchor: str) -> Tensor:
    languages = gram.shape[1]
    pairs = valid.unsqueeze(2) & valid.unsqueeze(1)
    pairs = pairs & torch.ones(languages, languages, dtype=torch.bool, device=gram.device).triu(diagonal=1)
    if anchor == "english":
        pairs = pairs & (torch.arange(languages, device=gram.device) == 0).unsqueeze(1)
    distances = torch.where(pairs, 1.0 - gram, 0.0).sum(dim=(1, 2))
    return distances / pairs.sum(dim=(1, 2)).clamp(min=1)
