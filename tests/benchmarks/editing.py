"""Sparse weight editing of one layer: sums in batches against keeping all activations, and where the time goes.

The weights are random, at the MLP shape of Qwen2.5-1.5B. The inputs are random too, and made in batches, as a forward
pass gives them; making them is part of both ways.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.editing.architecture import PROJECTIONS, Projection
from mlc.editing.settings import UnitSettings
from mlc.editing.solve import EditStatistics, LowRank, factorise, leading_svd, solve
from mlc.editing.units import SafetyUnits, UnitStatistics, choose_units
from tests.benchmarks.dpo import peak_bytes
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement

GAMMA, RIDGE = 1.0, 100.0
SHIFT = 0.5
"""How far harmful prompts lie from harmless ones; about one unit in forty is then a safety unit."""


@dataclass(frozen=True)
class Size:
    """The layer, the prompts, and how often it is measured."""

    width: int
    units: int
    prompts: int
    """Half of them harmful, each in English and in one language."""
    rank: int
    batch: int
    rounds: int


FULL = Size(width=1536, units=8960, prompts=2_000, rank=32, batch=20, rounds=3)
QUICK = Size(width=48, units=256, prompts=64, rank=4, batch=8, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Time and memory of the two ways, shares of the time, and the decomposition against a thin one."""
    size = QUICK if quick else FULL
    bench = Bench(size)
    facts: dict[str, Any] = {**asdict(size), "threads": torch.get_num_threads()}
    ours, theirs = bench.streaming(), bench.keeping()
    for name in PROJECTIONS:
        change, other = ours[name].dense(), theirs[name].dense()
        require_agreement("edits", float((change - other).norm() / other.norm()), 1e-6)
    statistics, units = bench.sums()
    facts["safety_units"] = {name: len(units.indices[name]) for name in PROJECTIONS}
    r_DD = factorise(statistics, GAMMA, RIDGE)
    whitened = [bench.whitened(r_DD, statistics, units, name) for name in PROJECTIONS]
    works = {
        "streaming": bench.streaming,
        "keeping": bench.keeping,
        "the products over the prompts": bench.sums,
        "the Cholesky factor": lambda: factorise(statistics, GAMMA, RIDGE),
        "the products with the units": lambda: [bench.whitened(r_DD, statistics, units, one) for one in PROJECTIONS],
        "the decompositions": lambda: [leading_svd(one, size.rank) for one in whitened],
        "thin": lambda: [torch.linalg.svd(one, full_matrices=False) for one in whitened],
    }
    turns = dict(zip(works, alternate(list(works.values()), rounds=size.rounds), strict=True))
    means = "sums over batches / keeping all activations, the whole edit of a layer"
    yield ratio("editing", "time, one layer", means, turns["streaming"], turns["keeping"], **facts)
    for name in list(works)[2:6]:
        share = ratio(
            "editing", f"share of the time, {name}", f"{name} / all", turns[name], turns["streaming"], **facts
        )
        yield share
    means = "leading singular triplets from the smaller Gram matrix / thin singular value decomposition"
    yield ratio("editing", "decomposition", means, turns["the decompositions"], turns["thin"], **facts)
    yield _memory(bench, facts)


def _memory(bench: "Bench", facts: dict[str, Any]) -> Figure:
    ours, theirs = peak_bytes(bench.streaming), peak_bytes(bench.keeping)
    value = round(ours / theirs, 4)
    detail = {
        "means": "peak of allocations, sums over batches / keeping all activations",
        "min": value,
        "max": value,
        "MiB, sums": round(ours / 2**20, 1),
        "MiB, kept": round(theirs / 2**20, 1),
        **facts,
    }
    return Figure("editing", "peak memory, one layer", value, "ratio", detail)


class Bench:
    """A layer and prompts.

    Args:
        size: The sizes.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        generator = torch.Generator().manual_seed(0)
        shape = (size.units, size.width)
        self.weights: dict[Projection, Tensor] = {
            name: torch.randn(shape, generator=generator) / size.width**0.5 for name in PROJECTIONS
        }
        direction = torch.randn(size.width, generator=generator)
        self.shift = SHIFT * direction * (size.width**0.5 / direction.norm())

    def batches(self) -> Iterator[tuple[bool, Tensor, Tensor]]:
        """Class, inputs in English and inputs in the language, batch by batch; the same every time."""
        size = self.size
        generator = torch.Generator().manual_seed(1)
        for harmful in (True, False):
            for _ in range(size.prompts // 2 // size.batch):
                english = torch.randn(size.batch, size.width, generator=generator)
                other = 0.6 * english + 0.8 * torch.randn(size.batch, size.width, generator=generator)
                yield harmful, english + self.shift if harmful else english, other

    def sums(self) -> tuple[EditStatistics, SafetyUnits]:
        """What the library keeps, from one pass."""
        units, edit = UnitStatistics.empty(self.size.units), EditStatistics.empty(self.size.width)
        for harmful, english, other in self.batches():
            for name in PROJECTIONS:
                units.add(name, english @ self.weights[name].T, harmful=harmful)
            if harmful:
                edit.add_harmful(other, english)
            else:
                edit.add_protected(english)
                edit.add_protected(other)
        return edit, choose_units(units, UnitSettings())

    def streaming(self) -> dict[Projection, LowRank]:
        """The edit as the library makes it."""
        statistics, units = self.sums()
        return self._solved(statistics, units)

    def keeping(self) -> dict[Projection, LowRank]:
        """The edit from inputs and activations of all prompts, kept until the end."""
        kept: dict[tuple[bool, str], list[Tensor]] = {}
        for harmful, english, other in self.batches():
            kept.setdefault((harmful, "english"), []).append(english)
            kept.setdefault((harmful, "other"), []).append(other)
            for name in PROJECTIONS:
                kept.setdefault((harmful, name), []).append(english @ self.weights[name].T)
        whole = {key: torch.cat(parts) for key, parts in kept.items()}
        units = UnitStatistics.empty(self.size.units)
        for (harmful, what), values in whole.items():
            if what in PROJECTIONS:
                units.add(what, values, harmful=harmful)
        statistics = EditStatistics.empty(self.size.width)
        statistics.add_harmful(whole[True, "other"], whole[True, "english"])
        statistics.add_protected(torch.cat([whole[False, "english"], whole[False, "other"]]))
        return self._solved(statistics, choose_units(units, UnitSettings()))

    def whitened(self, r_DD: Tensor, statistics: EditStatistics, units: SafetyUnits, name: Projection) -> Tensor:
        """The matrix that is decomposed."""
        weights = self.weights[name][units.indices[name]].T.double()
        return torch.linalg.solve_triangular(r_DD.T, statistics.cross_DD @ weights, upper=False)

    def _solved(self, statistics: EditStatistics, units: SafetyUnits) -> dict[Projection, LowRank]:
        r_DD = factorise(statistics, GAMMA, RIDGE)
        found: dict[Projection, LowRank] = {}
        for name in PROJECTIONS:
            weights = self.weights[name][units.indices[name]].T
            found[name] = solve(r_DD, statistics, weights, self.size.rank)
        return found
