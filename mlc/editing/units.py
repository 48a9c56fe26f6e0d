"""Safety units: units of an MLP that answer harmful prompts more strongly than harmless ones.

Sparse Weight Editing, arXiv 2602.22554. For each unit u of ``gate_proj`` and ``up_proj`` of a layer,

    Δ_u = mean over harmful prompts − mean over harmless prompts
    z_u = (Δ_u − mean of Δ) / standard deviation of Δ, over the layer's units
    d_u = Δ_u / pooled standard deviation of u over the prompts (Cohen's d)
    S = {z > 2} ∪ {d > 1}

The activation is the output of the projection itself, before the non-linearity, because that is what the edit
changes. Both thresholds are one-sided. What the paper leaves open is chosen here: the standard deviation of Δ is that
of a population, the pooled one has n₁ + n₂ − 2 degrees of freedom, and differences below the resolution of single
precision count as none.

Shapes: N prompts, M units.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlc.editing.architecture import PROJECTIONS, Projection
from mlc.editing.settings import UnitSettings

RESOLUTION = 1e-5
"""Differences of means below this share of the units' size are rounding of the forward pass, and count as zero."""


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of M units, added to in batches (Chan, Golub and LeVeque, 1983)."""

    count: int
    mean_M: Tensor
    """Float64."""
    squares_M: Tensor
    """Float64: sum over prompts of (activation − mean)²."""

    @classmethod
    def empty(cls, units: int, device: Any = None) -> "Moments":
        """Moments of no prompt."""
        zeros = torch.zeros(units, dtype=torch.float64, device=device)
        return cls(0, zeros, zeros.clone())

    def add(self, activations_NM: Tensor) -> None:
        """Adds prompts.

        Args:
            activations_NM: [N, M] in any floating type.
        """
        if not len(activations_NM):
            return
        precise_NM = activations_NM.double()
        mean_M = precise_NM.mean(dim=0)
        self.merge(Moments(len(precise_NM), mean_M, (precise_NM - mean_M).square().sum(dim=0)))

    def merge(self, other: "Moments") -> None:
        """Adds the prompts of another one."""
        if not other.count:
            return
        count = self.count + other.count
        step_M = other.mean_M - self.mean_M
        self.mean_M = self.mean_M + step_M * (other.count / count)
        self.squares_M = self.squares_M + other.squares_M + step_M.square() * (self.count * other.count / count)
        self.count = count


@dataclass(frozen=True)
class UnitContrast:
    """How the units of one projection tell harmful from harmless prompts."""

    difference_M: Tensor
    """Δ, float64."""
    z_M: Tensor
    d_M: Tensor
    """May be infinite, for a unit that never varies within the classes; zero where each class has one prompt, which
    shows no spread."""


@dataclass
class UnitStatistics:
    """Running moments of the units of one layer, harmful and harmless prompts apart.

    The memory does not depend on the number of prompts.
    """

    harmful: dict[Projection, Moments]
    harmless: dict[Projection, Moments]

    @classmethod
    def empty(cls, units: int, device: Any = None) -> "UnitStatistics":
        """Statistics of no prompt.

        Args:
            units: M.
            device: Where to keep them.
        """
        sides = [{name: Moments.empty(units, device) for name in PROJECTIONS} for _ in range(2)]
        return cls(*sides)

    def add(self, projection: Projection, activations_NM: Tensor, *, harmful: bool) -> None:
        """Adds the activations of prompts of one class."""
        (self.harmful if harmful else self.harmless)[projection].add(activations_NM)

    def contrast(self, standardise: str = "layer") -> dict[Projection, UnitContrast]:
        """Δ, z and d of every unit.

        Args:
            standardise: ``layer`` or ``projection``, see :class:`mlc.editing.settings.UnitSettings`.

        Raises:
            ValueError: A class has no prompt.
        """
        deltas = {name: _difference(self.harmful[name], self.harmless[name]) for name in PROJECTIONS}
        whole = torch.cat(list(deltas.values()))
        found: dict[Projection, UnitContrast] = {}
        for name, delta_M in deltas.items():
            z_M = _standardised(delta_M, whole if standardise == "layer" else delta_M)
            found[name] = UnitContrast(delta_M, z_M, _cohens_d(delta_M, self.harmful[name], self.harmless[name]))
        return found


@dataclass(frozen=True)
class SafetyUnits:
    """The safety units of one layer."""

    indices: dict[Projection, Tensor]
    """Sorted int64."""
    units: int
    """Units of each projection, M."""
    of: int = field(default=len(PROJECTIONS))
    """Projections."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(found) for found in self.indices.values())

    @property
    def share(self) -> float:
        """Their share of the layer's units."""
        return self.count / (self.of * self.units)

    def jaccard(self, other: "SafetyUnits") -> float:
        """Shared units over all units of both, in [0, 1]; 1 if neither has any."""
        mine, theirs = self._names(), other._names()
        return len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0

    def _names(self) -> set[tuple[str, int]]:
        return {(name, unit) for name, found in self.indices.items() for unit in found.tolist()}


def choose_units(statistics: UnitStatistics, settings: UnitSettings) -> SafetyUnits:
    """The units above the thresholds; none where both classes hold the same prompts.

    Raises:
        ValueError: A class has no prompt.
    """
    indices: dict[Projection, Tensor] = {}
    contrast = statistics.contrast(settings.standardise)
    for name, one in contrast.items():
        by_z, by_d = one.z_M > settings.z_threshold, one.d_M > settings.d_threshold
        # A unit without any difference is no safety unit, whatever the thresholds.
        chosen = (by_z | by_d if settings.combine == "union" else by_z & by_d) & (one.difference_M != 0)
        indices[name] = chosen.nonzero().flatten()
    return SafetyUnits(indices, len(contrast["gate_proj"].z_M))


def _difference(harmful: Moments, harmless: Moments) -> Tensor:
    if not harmful.count or not harmless.count:
        raise ValueError(f"units need prompts of both classes, not {harmful.count} harmful, {harmless.count} harmless.")
    delta_M = harmful.mean_M - harmless.mean_M
    size = torch.sqrt((harmful.mean_M.square() + harmless.mean_M.square() + _pooled_variance(harmful, harmless)).mean())
    return torch.where(delta_M.abs() <= RESOLUTION * size, 0.0, delta_M)


def _standardised(delta_M: Tensor, among: Tensor) -> Tensor:
    spread = among.std(correction=0)
    return (delta_M - among.mean()) / spread if spread > 0 else torch.zeros_like(delta_M)


def _pooled_variance(harmful: Moments, harmless: Moments) -> Tensor:
    freedom = harmful.count + harmless.count - 2
    squares_M = harmful.squares_M + harmless.squares_M
    return squares_M / freedom if freedom > 0 else torch.zeros_like(squares_M)


def _cohens_d(delta_M: Tensor, harmful: Moments, harmless: Moments) -> Tensor:
    if harmful.count + harmless.count <= 2:
        return torch.zeros_like(delta_M)
    spread_M = _pooled_variance(harmful, harmless).sqrt()
    return torch.where(delta_M == 0, 0.0, delta_M / spread_M)
