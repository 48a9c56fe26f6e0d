"""How well a probability says what happens: reliability bins, calibration error, the plot of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlc.evaluation.intervals import wilson
from mlc.evaluation.results import Estimate

Floats = NDArray[np.float64]

BINS = 10
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Bin:
    """Rows of about the same predicted probability."""

    predicted: float
    """Mean prediction, in [0, 1]."""
    observed: Estimate
    """Share of the rows that are good, with its Wilson interval."""


def reliability_bins(predicted: ArrayLike, good: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Sorts rows by their prediction and cuts them into parts of about equal size.

    Args:
        predicted: [N] probabilities.
        good: [N] 1 or 0, or true or false: what happened.
        bins: Most parts; equal predictions are never parted, so there may be fewer.

    Raises:
        ValueError: The two differ in length, or are empty.
    """
    chances, outcomes = np.asarray(predicted, dtype=np.float64), np.asarray(good, dtype=np.float64)
    if chances.shape != outcomes.shape or not len(chances):
        raise ValueError(f"predicted and good must be as long as each other: {chances.shape}, {outcomes.shape}.")
    edges = np.unique(np.quantile(chances, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    places = np.searchsorted(edges, chances, side="left")
    return [
        Bin(float(chances[places == place].mean()), wilson(int(outcomes[places == place].sum()), int(inside)))
        for place, inside in enumerate(np.bincount(places))
        if inside
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean distance of prediction and outcome over the bins, weighted by their rows.

    Naeini, Cooper and Hauskrecht (2015); here over bins of equal size, in which no bin is nearly empty.
    """
    rows = sum(one.observed.n for one in bins)
    return sum(abs(one.predicted - one.observed.value) * one.observed.n for one in bins) / rows


def plot_reliability(curves: Mapping[str, tuple[Floats, Floats]], path: Path) -> None:
    """Draws predicted against observed shares, one curve a score.

    Args:
        curves: Predictions and outcomes by name, at most four.
        path: Where the PNG goes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.9, dashes=(4, 2))
    for colour, (name, (predicted, good)) in zip(_COLOURS, curves.items(), strict=False):
        bins = reliability_bins(predicted, good)
        centres = [one.observed.value for one in bins]
        reach = [
            [one.observed.value - one.observed.low for one in bins],
            [one.observed.high - one.observed.value for one in bins],
        ]
        label = f"{name} (n {len(predicted):,}, error {calibration_error(bins):.3f})"
        axes.errorbar(
            [one.predicted for one in bins],
            centres,
            reach,
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.2,
            label=label,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="quality, mean of a bin", ylabel="share that people called good")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=160, metadata={"Software": None})
