"""The Multi-Lingual Consistency (MLC) loss and its anchored, sign-aware and contrastive relatives.

Bu et al., "Align Once, Benefit Multilingually", ICLR 2026, arXiv 2602.16660.

Shapes: B prompts, L languages (row 0 is English), D representation size.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from mlc.choices import Anchor, Form
from mlc.losses.finite import require_finite
from mlc.losses.weights import weights_of

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
    """[B] in [1 / valid rows, 1], detached: the first squared singular value over the number of valid rows (over the
    sum of their weights, where rows have weights)."""


def consistency_loss(
    z: Tensor,
    *,
    temperature: float = 0.2,
    form: Form = "released",
    signed: bool = False,
    anchor: Anchor = "none",
    mask: Tensor | None = None,
    language_weights: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> ConsistencyLoss:
    r"""Penalises prompt representations that differ between the languages of one prompt.

    Rows are scaled to unit length; :math:`\sigma_1 \ge \dots \ge \sigma_L` are the singular values of a prompt's
    [L, D] matrix, so that :math:`\sum \sigma_j^2` is the number of valid rows, and a dominant
    :math:`\sigma_1` means collinear rows. Forms:

    * ``paper`` (the paper's equation): :math:`-\log \mathrm{softmax}(\sigma / \tau)_1`.
    * ``released`` (the authors' code): the same with logits :math:`\sigma_j / (\mathrm{sg}(\sigma_1)\,\tau)`, where
      sg stops the gradient. Its range is :math:`\log L` for orthonormal rows down to
      :math:`\log(1 + (L-1) e^{-1/\tau})`, not zero, for collinear ones.
    * ``cosine`` (ours): mean of 1 − cos over the pairs of rows; with ``anchor="english"`` over the pairs with
      the English row only. In [0, 2]; collinear rows of one direction give 0.
    * ``contrastive`` (ours; InfoNCE, van den Oord et al., arXiv 1807.03748, in both directions): the translation
      :math:`z_{bl}` has to find its own English row among those of the batch, and the English row its translation
      among those of the batch in that language:
      :math:`-\tfrac12 \log \mathrm{softmax}_{b'}(z_{bl} \cdot z_{b'0} / \tau)_b
      - \tfrac12 \log \mathrm{softmax}_{b'}(z_{b0} \cdot z_{b'l} / \tau)_b`, the mean over l ≥ 1.
      Prompts that collapse onto each other cost, so nothing else has to guard against it. Between 0 and
      :math:`2/\tau + \log B`; a batch of one prompt has nothing to contrast and gives 0.

    The singular values do not see signs: in the forms ``paper`` and ``released`` **an opposite vector counts as
    consistent**. ``signed=True`` (a departure from the paper) appends one constant coordinate to every unit row
    before the singular values are taken, so that the entries g of the Gram matrix become (1 + g) / 2: opposite
    rows then count as orthogonal ones, and the gradient pulls them together. The other forms are always signed.

    Weights (a departure from the paper, which names them as future work) are how often a row counts: in the spectral
    forms a row of weight 2 gives what the same row twice would, weight 1 everywhere is the unweighted loss, weight 0
    is a masked row, and the loss is continuous in between. A pair of rows in the other forms has the product of their
    weights, a candidate of the contrastive softmax its own. Weights are constants: no gradient reaches them.

    Everything is computed in float32 (float64 stays float64) from the [L, L] Gram matrix, whose eigenvalues are
    :math:`\sigma^2`; autocast is off inside.

    Args:
        z: [B, L, D] representations, English at index 0.
        temperature: :math:`\tau > 0` of all forms but ``cosine``.
        form: Which loss.
        signed: Count opposite rows as inconsistent.
        anchor: ``english`` stops the gradient through the English row, so that the other languages move
            towards it and it does not move towards them. ``none`` is the published behaviour.
        mask: [B, L] bool, False for languages that a prompt lacks. A masked batch gives exactly what the smaller
            unmasked one gives. A prompt with fewer than two valid rows has loss 0; so has one without English in
            the form ``contrastive``, or anchored in any form.
        language_weights: [L] finite, at least 0: weight of each language, such as more for those at risk.
        row_weights: [B, L] finite, at least 0: weight of each row, such as a translation's quality. Multiplied with
            ``language_weights``.

    Raises:
        ValueError: A shape, a weight, the temperature or a name is wrong, the batch is empty, or ``z`` is not finite.
    """
    _check(z, temperature, form, anchor)
    weights = weights_of(z.shape[:2], z, mask, language_weights, row_weights)
    with torch.autocast(z.device.type, enabled=False):
        rows = z if z.dtype == torch.float64 else z.float()
        if anchor == "english":
            rows = torch.cat([rows[:, :1].detach(), rows[:, 1:]], dim=1)
        gram, scale = _gram(rows, weights > 0)
        sigma = _singular_values(_weighted(gram, weights))
        if form == "contrastive":
            loss = _contrastive(rows * scale.unsqueeze(-1), weights, temperature)
        elif form == "cosine":
            loss = _cosine(gram, weights, anchor)
        else:
            logits = _singular_values(_weighted((gram + 1.0) / 2.0, weights)) if signed else sigma
            loss = _spectral(logits, weights, temperature, form)
            if anchor == "english":
                loss = torch.where(weights[:, 0] > 0, loss, 0.0)
        detached = sigma.detach()
        return ConsistencyLoss(loss, detached, _collinearity(detached, weights))


@torch.no_grad()
def collinearity(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """How collinear the rows of each prompt are, without a loss: what :class:`ConsistencyLoss` tells of them.

    Args:
        z: [B, L, D] representations, English at index 0.
        mask: [B, L] bool, False for languages that a prompt lacks.

    Returns:
        [B] in [1 / valid rows, 1]; 0 for a prompt without valid rows.

    Raises:
        ValueError: A shape is wrong, the batch is empty, or ``z`` is not finite.
    """
    _check_rows(z)
    weights = weights_of(z.shape[:2], z, mask, None, None)
    with torch.autocast(z.device.type, enabled=False):
        gram, _ = _gram(z if z.dtype == torch.float64 else z.float(), weights > 0)
        return _collinearity(_singular_values(_weighted(gram, weights)), weights)


def _collinearity(sigma: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(dim=1)
    return sigma[:, 0].square() / torch.where(total > 0, total, 1.0)


def _check_rows(z: Tensor) -> None:
    if z.ndim != 3 or 0 in z.shape:
        raise ValueError(f"z must be [B, L, D] with at least one of each, not {list(z.shape)}.")
    if not z.is_floating_point():
        raise ValueError(f"z must be floating point, not {z.dtype}.")


def _check(z: Tensor, temperature: float, form: str, anchor: str) -> None:
    _check_rows(z)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}.")
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, not {form!r}.")
    if anchor not in get_args(Anchor):
        raise ValueError(f"anchor must be one of {', '.join(get_args(Anchor))}, not {anchor!r}.")


def _gram(rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines [B, L, L] of the rows, 0 where a row does not count or is zero, and [B, L] factors to unit length."""
    raw = rows @ rows.transpose(1, 2)
    squared = raw.diagonal(dim1=1, dim2=2)
    # One look at [B, L] numbers instead of [B, L, D]: whatever is not finite in a row is not finite in its length.
    require_finite(squared, "z and the squared lengths of its rows in float32")
    # A zero row stays zero and passes no gradient; the inner `where` keeps the root away from 0.
    counts = valid & (squared > 0)
    scale = torch.where(counts, torch.where(counts, squared, 1.0).rsqrt(), 0.0)
    return raw * scale.unsqueeze(1) * scale.unsqueeze(2), scale


def _weighted(gram: Tensor, weights: Tensor) -> Tensor:
    root = weights.sqrt()
    return gram * root.unsqueeze(1) * root.unsqueeze(2)


def _singular_values(gram: Tensor) -> Tensor:
    # Gradient through eigenvalues alone is bounded even where they coincide; only the square root at 0 is not.
    eigenvalues = torch.linalg.eigvalsh(gram).flip(-1)
    positive = eigenvalues > _SPECTRAL_EPS
    return torch.where(positive, torch.where(positive, eigenvalues, 1.0).sqrt(), 0.0)


def _spectral(sigma: Tensor, weights: Tensor, temperature: float, form: str) -> Tensor:
    scale = sigma[:, :1].detach().clamp(min=_SPECTRAL_EPS**0.5) if form == "released" else 1.0
    logits = sigma / (scale * temperature)
    # With k valid rows only the first k singular values exist; the others are zeros that padding added.
    count = (weights > 0).sum(dim=1, keepdim=True).clamp(min=1)
    exists = torch.arange(sigma.shape[1], device=sigma.device) < count
    relative = torch.where(exists, (logits - logits[:, :1]).exp(), 0.0)
    # A row that counts w times brings w - 1 more singular values of 0, each with e^0 in the sum.
    total = weights.sum(dim=1)
    more = torch.where(total > 0, total - count.squeeze(1), 0.0)
    loss = torch.log(relative.sum(dim=1) + more * torch.exp(-logits[:, 0]))
    # A row alone agrees with itself, whatever it weighs.
    return torch.where(count.squeeze(1) > 1, loss, 0.0)


def _cosine(gram: Tensor, weights: Tensor, anchor: str) -> Tensor:
    pairs = weights.unsqueeze(2) * weights.unsqueeze(1)
    pairs = pairs[:, :1].triu(diagonal=1) if anchor == "english" else pairs.triu(diagonal=1)
    distances = (pairs * (1.0 - gram[:, : pairs.shape[1]])).sum(dim=(1, 2))
    total = pairs.sum(dim=(1, 2))
    return distances / torch.where(total > 0, total, 1.0)


def _contrastive(unit: Tensor, weights: Tensor, temperature: float) -> Tensor:
    english, others = unit[:, 0], unit[:, 1:]
    # [L - 1, B translations, B English rows]
    logits = torch.einsum("bld,cd->lbc", others, english) / temperature
    w_english, w_others = weights[:, 0], weights[:, 1:].T
    to_english = _find_own(logits, w_english.expand_as(w_others))
    to_others = _find_own(logits.transpose(1, 2), w_others)
    pairs = w_english * w_others
    both = torch.where(pairs > 0, (to_english + to_others) / 2.0, 0.0)
    total = pairs.sum(dim=0)
    return (pairs * both).sum(dim=0) / torch.where(total > 0, total, 1.0)


def _find_own(logits: Tensor, candidates: Tensor) -> Tensor:
    """−log of the share [L, B] that the diagonal of [L, B, B] has in a softmax with weighted candidates [L, B].

    Infinite or without meaning where the own candidate has weight 0; the caller leaves those out.
    """
    weighted = logits + torch.where(candidates > 0, candidates, 1.0).log().unsqueeze(1)
    weighted = weighted.masked_fill((candidates <= 0).unsqueeze(1), torch.finfo(logits.dtype).min)
    own = weighted.diagonal(dim1=1, dim2=2)
    return torch.logsumexp(weighted, dim=2) - own
