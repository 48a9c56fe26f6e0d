"""The closed form of sparse weight editing, in double precision.

Sparse Weight Editing, arXiv 2602.22554. With y = xW and W_S the columns of the safety units,

    minimise over ΔW of rank r   ‖X_low ΔW − D‖² + γ ‖X_safe ΔW‖² + λ ‖ΔW‖²,   D = (X_en − X_low) W_S
    Q = X_lowᵀX_low + γ X_safeᵀX_safe + λI = RᵀR,   M = Q⁻¹ X_lowᵀD
    R M ≈ U Σ_r Vᵀ (the r largest singular values),   ΔW = R⁻¹ U Σ_r Vᵀ

X_low are the inputs of the MLP on harmful prompts in the weak language, X_en those of the same prompts in English,
X_safe those on harmless prompts. Nothing but X_lowᵀX_low, X_safeᵀX_safe and X_lowᵀ(X_en − X_low) is needed of the
prompts, and all three are sums over them: they are added up in batches, before the units are known, and X_lowᵀD is the
last of them times W_S. Both projections of a layer have the same inputs, so they share Q. R M = R⁻ᵀ X_lowᵀD, so M
itself is never computed.

Shapes: N prompts, D width of the input, m units in S, r rank.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.editing.settings import Scale
from mlc.errors import UserError

SMALLEST_BY_GRAM = 1e-5
"""Singular values below this share of the largest are not read off a Gram matrix, which would lose their digits."""


@dataclass
class EditStatistics:
    """What the closed form needs of the prompts, for one layer. The memory does not depend on their number."""

    low_DD: Tensor
    """X_lowᵀX_low, float64."""
    cross_DD: Tensor
    """X_lowᵀ(X_en − X_low), float64."""
    safe_DD: Tensor
    """X_safeᵀX_safe, float64."""
    harmful: int = 0
    """Rows of X_low."""
    protected: int = 0
    """Rows of X_safe."""

    @classmethod
    def empty(cls, width: int, device: Any = None) -> "EditStatistics":
        """Statistics of no prompt.

        Args:
            width: D.
            device: Where to keep them.
        """
        low_DD, cross_DD, safe_DD = torch.zeros(3, width, width, dtype=torch.float64, device=device)
        return cls(low_DD, cross_DD, safe_DD)

    def add_harmful(self, low_ND: Tensor, english_ND: Tensor) -> None:
        """Adds harmful prompts: inputs in the weak language and in English, row by row."""
        low_ND, english_ND = low_ND.double(), english_ND.double()
        self.low_DD.addmm_(low_ND.T, low_ND)
        self.cross_DD.addmm_(low_ND.T, english_ND - low_ND)
        self.harmful += len(low_ND)

    def add_protected(self, safe_ND: Tensor) -> None:
        """Adds prompts that the edit must leave alone: harmless ones, in any language."""
        safe_ND = safe_ND.double()
        self.safe_DD.addmm_(safe_ND.T, safe_ND)
        self.protected += len(safe_ND)

    def scaled(self, gamma: float, ridge: float, scale: Scale) -> tuple[float, float]:
        """Gamma and ridge of the formula, from those of the settings.

        ``relative``: γ · N_h / N_s and λ · trace(X_lowᵀX_low) / D; ``absolute``: as they are.
        """
        if scale == "absolute":
            return gamma, ridge
        return gamma * self.harmful / max(self.protected, 1), ridge * float(self.low_DD.trace()) / len(self.low_DD)


@dataclass(frozen=True)
class LowRank:
    """An edit of one projection: ΔW = left · right, for y = xW."""

    left_Dr: Tensor
    """R⁻¹ U Σ, float64, directions of larger singular values first."""
    right_rm: Tensor
    """Vᵀ, orthonormal rows."""
    kept: float
    """Share of the squared singular values of R M that the rank keeps; 1 if there is nothing to keep."""

    @property
    def rank(self) -> int:
        """r; less than was asked for where R M has no more."""
        return len(self.right_rm)

    def dense(self) -> Tensor:
        """ΔW, [D, m]."""
        return self.left_Dr @ self.right_rm


def factorise(statistics: EditStatistics, gamma: float, ridge: float) -> Tensor:
    """R of Q = RᵀR, upper triangular, [D, D].

    Args:
        statistics: Of the prompts.
        gamma: γ of the formula.
        ridge: λ of the formula.

    Raises:
        UserError: Q is singular: λ is 0, or too small for double precision, and the prompts do not span the inputs.
    """
    q_DD = statistics.low_DD + gamma * statistics.safe_DD
    q_DD.diagonal().add_(ridge)
    r_DD: Tensor
    r_DD, failed = torch.linalg.cholesky_ex(q_DD, upper=True)
    pivots_D = r_DD.diagonal().square()
    # Rounding may leave a singular matrix tiny positive pivots, and the result would be noise.
    singular = int(failed) or not float(pivots_D.min()) > len(q_DD) * torch.finfo(torch.float64).eps * float(
        q_DD.diagonal().max()
    )
    if singular:
        raise UserError(
            f"The edit has no unique solution with ridge {ridge:g}: {statistics.harmful} harmful and "
            f"{statistics.protected} protected prompts do not span the {len(q_DD)} inputs of the layer; set ridge "
            "above 0, such as 0.1."
        )
    return r_DD


def solve(r_DD: Tensor, statistics: EditStatistics, weights_Dm: Tensor, rank: int) -> LowRank:
    """The best edit of one projection.

    Args:
        r_DD: From :func:`factorise`.
        statistics: Of the same prompts.
        weights_Dm: W_S, the columns of the safety units.
        rank: r; at least 1.

    Returns:
        Rank ``rank``, or what R M has if that is less: at most the number of harmful prompts and of units.
    """
    target_Dm = statistics.cross_DD @ weights_Dm.double()
    whitened_Dm = torch.linalg.solve_triangular(r_DD.T, target_Dm, upper=False)
    u_Dr, s_r, right_rm, kept = leading_svd(whitened_Dm, rank)
    return LowRank(torch.linalg.solve_triangular(r_DD, u_Dr * s_r, upper=True), right_rm, kept)


def leading_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """The leading singular triplets of a tall, thin or wide matrix, and the share of the squares that they keep.

    They come from the eigenvectors of the smaller Gram matrix, several times as fast as a singular value
    decomposition. Squaring loses digits of small singular values, so where one of the wanted is below
    :data:`SMALLEST_BY_GRAM` of the largest, a thin decomposition is made instead.

    Args:
        matrix: [a, b] float64.
        rank: Triplets that are wanted.

    Returns:
        U [a, r], σ [r] falling, Vᵀ [r, b], and the share; r is ``rank`` or the numerical rank if that is smaller.
    """
    rank = min(rank, *matrix.shape)
    total = float(matrix.square().sum())
    if rank == 0 or total == 0.0:
        return matrix[:, :0], matrix.new_zeros(0), matrix[:0], 1.0
    found = _by_gram(matrix, rank)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False) if found is None else found
    real = int((s > max(matrix.shape) * torch.finfo(s.dtype).eps * s[0]).sum())
    rank = min(rank, real)
    return u[:, :rank], s[:rank], vt[:rank], min(1.0, float(s[:rank].square().sum()) / total)


def _by_gram(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor] | None:
    tall = matrix.shape[0] >= matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values[-rank:].flip(0), vectors[:, -rank:].flip(1)
    if not float(values[-1]) > SMALLEST_BY_GRAM**2 * float(values[0]):
        return None
    other = matrix @ vectors if tall else matrix.T @ vectors
    sizes = other.norm(dim=0)
    other = other / sizes
    return (other, sizes, vectors.T) if tall else (vectors, sizes, other.T)
