"""Intervals of areas, and of means over seeds."""

import math

import numpy as np
import pytest

from mlc.evaluation.intervals import Z, area, beyond, half_width, halved, mean_area, over_seeds
from mlc.evaluation.metrics import auroc
from mlc.evaluation.paired import Stratum, change
from mlc.evaluation.results import MISSING, Estimate


def errors_away(measured: float, theta: float, harmful: int, harmless: int) -> float:
    """How many of Hanley and McNeil's standard errors of an area the measured one is away from it."""
    first, second = theta / (2 - theta), 2 * theta**2 / (1 + theta)
    spread = (harmful + harmless) / 2 - 1
    variance = theta * (1 - theta) + spread * (first - theta**2) + spread * (second - theta**2)
    return abs(measured - theta) / math.sqrt(variance / (harmful * harmless))


@pytest.mark.parametrize(
    ("value", "harmful", "harmless"), [(0.5, 10, 10), (0.72, 40, 25), (0.96, 8, 60), (0.03, 15, 9)]
)
def test_the_ends_are_the_areas_that_are_two_errors_away(value: float, harmful: int, harmless: int) -> None:
    found = area(value, harmful, harmless)
    assert found.n == harmful + harmless
    for end in (found.low, found.high):
        assert errors_away(value, end, harmful, harmless) == pytest.approx(Z)
    turned = area(1 - value, harmful, harmless)
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((found.low, found.high))


def test_prompts_that_are_separated_perfectly_prove_only_so_much() -> None:
    few, many = area(1.0, 3, 3), area(1.0, 300, 300)
    assert few.high == many.high == 1
    assert 0 < few.low < 0.6 < 0.98 < many.low < 1
    assert errors_away(1.0, few.low, 3, 3) == pytest.approx(Z)
    assert (area(0.0, 3, 3).low, area(0.0, 3, 3).high) == pytest.approx((0, 1 - few.low))
    assert area(math.nan, 0, 4) == MISSING


def test_a_mean_area_is_symmetric_as_a_logit() -> None:
    generator = np.random.default_rng(0)
    draws = np.append(0.9, generator.normal(0.9, 0.02, size=5000))
    found = mean_area(draws, 30, 40)
    logits = [math.log(end / (1 - end)) for end in (found.low, found.value, found.high)]
    assert logits[1] - logits[0] == pytest.approx(logits[2] - logits[1])
    assert logits[2] - logits[0] == pytest.approx(2 * Z * 0.02 / (0.9 * 0.1), rel=0.03)
    assert found.n == 70
    # No resample moves it.
    assert mean_area(np.ones(50), 30, 40) == area(1.0, 30, 40)
    assert mean_area(np.array([0.8]), 30, 40) == area(0.8, 30, 40)
    assert mean_area(np.full(5, math.nan), 30, 40) == MISSING


@pytest.mark.parametrize("true", [0.8, 0.95])
def test_intervals_of_areas_cover(true: float) -> None:
    generator = np.random.default_rng(1)
    # Normal margins that are `apart` from each other have this area.
    apart = {0.8: 1.19023, 0.95: 2.32617}[true]
    found = [area(auroc(generator.normal(apart, size=40), generator.normal(size=40)), 40, 40) for _ in range(1000)]
    assert 0.935 < np.mean([one.low <= true <= one.high for one in found]) < 0.99


def test_error_over_seeds_by_hand() -> None:
    by_seed = np.array([0.1, 0.2, 0.6])
    covariance = np.array([[0.04, 0.01, 0.02], [0.01, 0.05, 0.03], [0.02, 0.03, 0.06]])
    # s² = .07, v = .05, c = .02: the prompts account for .03 of s².
    error, freedom = over_seeds(by_seed, covariance)
    assert error == pytest.approx(math.sqrt(0.02 + 0.07 / 3))
    assert freedom == pytest.approx(2 * (0.02 + 0.07 / 3) ** 2 / (0.07 / 3) ** 2)
    # Seeds that differ by less than the prompts make them.
    error, freedom = over_seeds(np.array([0.1, 0.1, 0.1]), covariance)
    assert error == pytest.approx(math.sqrt(0.02 + 0.03 / 3))
    assert freedom == math.inf
    # What prompts do to several seeds cancels at best: a covariance below 0 is none.
    error, freedom = over_seeds(np.array([0.0, 1.0]), np.array([[0.01, -0.01], [-0.01, 0.01]]))
    assert (error, freedom) == pytest.approx((math.sqrt(0.5 / 2), 1))


def test_widths_and_p_values_are_of_one_distribution() -> None:
    assert half_width(0.1) == pytest.approx(0.195996, abs=1e-6)
    # From tables of Student's t.
    assert half_width(0.1, 4) == pytest.approx(0.277645, abs=1e-6)
    for freedom in (1.0, 4.0, math.inf):
        assert beyond(half_width(1, freedom), freedom) == pytest.approx(0.05)
        assert beyond(0, freedom) == pytest.approx(1)


def test_balanced_accuracy_is_half_of_one_more() -> None:
    assert halved(MISSING, 1.0) == MISSING
    assert halved(Estimate(0.2, -0.4, 0.6, 9), 1.0) == Estimate(
        pytest.approx(0.6), pytest.approx(0.3), pytest.approx(0.8), 9
    )
    assert halved(Estimate(0.2, -0.4, 0.6, 9)) == Estimate(
        pytest.approx(0.1), pytest.approx(-0.2), pytest.approx(0.3), 9
    )


@pytest.mark.parametrize(("noise", "widest"), [(0.0, 1.6), (0.15, 5.0)])
def test_intervals_cover_other_seeds_too(noise: float, widest: float) -> None:
    """Five seeds, each with an effect of its own: the interval over prompts alone is far too narrow."""
    generator = np.random.default_rng(2)
    covered, widths = np.zeros(2), np.zeros(2)
    rounds = 600
    for _ in range(rounds):
        likely = 0.5 + np.clip(generator.normal(0.2, noise, size=5), -0.5, 0.5)
        before = generator.random((60, 1)) < 0.5
        after = generator.random((60, 5)) < likely
        values = after.astype(float) - before
        for column, seeds in enumerate((1, 5)):
            found = change([Stratum(values)], seeds).estimate
            covered[column] += found.low <= 0.2 <= found.high
            widths[column] += found.high - found.low
    covered /= rounds
    assert 0.93 < covered[1] < 0.995
    assert covered[0] < 0.93 if noise else covered[0] > 0.93
    assert 1 <= widths[1] / widths[0] < widest
