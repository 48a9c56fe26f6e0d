"""Intervals of single figures, and what they are made of."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mlc.evaluation.results import MISSING, Estimate

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Coverage of every interval of the project."""
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_HALVINGS = 60


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """A proportion with Wilson's score interval (Wilson, 1927), without continuity correction.

    Args:
        successes: How many of the trials succeeded, 0 to ``n``.
        n: Trials.
        confidence: Coverage, between 0 and 1, both exclusive.

    Returns:
        The proportion with its interval within [0, 1]; NaN with ``n`` 0.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n = {n}, not {successes}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}.")
    if n == 0:
        return MISSING
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n successes the exact bounds are 0 and 1; rounding would put them beside the proportion.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Estimate(share, low, high, n)


def newcombe(harmful: Estimate, harmless: Estimate) -> Estimate:
    """One proportion minus an independent one, with the hybrid score interval.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions" (1998), without
    continuity correction: from Wilson's bounds l and u of each,

        d − √((p₁ − l₁)² + (u₂ − p₂)²)   to   d + √((u₁ − p₁)² + (p₂ − l₂)²)

    Args:
        harmful: From :func:`wilson`.
        harmless: From :func:`wilson`; subtracted.

    Returns:
        The difference in [-1, 1], with the trials of both together; missing if one is.
    """
    if not harmful.n or not harmless.n:
        return MISSING
    return replace(minus(harmful, harmless), n=harmful.n + harmless.n)


def minus(first: Estimate, second: Estimate, correlation: float = 0.0) -> Estimate:
    """One figure minus another one, with an interval made of theirs, l₁ to u₁ and l₂ to u₂.

    The method of variance estimates recovery (MOVER; Zou and Donner, "Construction of confidence limits about effect
    measures", 2008): with x = p₁ − l₁ and y = u₂ − p₂ the lower end is d − √(x² + y² − 2rxy), and so the upper one with
    u₁ − p₁ and p₂ − l₂. Without correlation it is Newcombe's hybrid. A departure: the nearer the correlation is to 1,
    the more the other arm of the second figure takes y's place, with weight r⁸, for figures that move together move to
    the same side.

    Args:
        first: From which is subtracted.
        second: What is subtracted.
        correlation: r, of the two figures.
    """
    together = max(0.0, correlation) ** 8
    up_1, down_1 = first.high - first.value, first.value - first.low
    up_2, down_2 = second.high - second.value, second.value - second.low

    def away(x: float, opposite: float, same: float) -> float:
        y = (1 - together) * opposite + together * same
        return math.sqrt(max(0.0, x * x + y * y - 2 * correlation * x * y))

    value = first.value - second.value
    return Estimate(value, value - away(down_1, up_2, down_2), value + away(up_1, down_2, up_2), first.n)


def halved(selectivity: Estimate, more: float = 0.0) -> Estimate:
    """Balanced accuracy of a selectivity at the same threshold, which is half of one more.

    Args:
        selectivity: The selectivity, or how much it differs.
        more: 1, or 0 for a difference.
    """
    if not selectivity.n:
        return MISSING
    value, low, high = ((more + end) / 2 for end in (selectivity.value, selectivity.low, selectivity.high))
    return Estimate(value, low, high, selectivity.n)


def area(value: float, harmful: int, harmless: int) -> Estimate:
    """An AUROC with its score interval.

    Method 5 of Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2"
    (2006): the areas θ from which the measured one is at most z standard errors away, with the variance that Hanley and
    McNeil (1982) give an area θ of m harmful and n harmless prompts,

        V(θ) = θ(1 − θ) · (1 + N(1 − θ)/(2 − θ) + Nθ/(1 + θ)) / mn,    N = (m + n)/2 − 1

    It has width where the prompts are separated perfectly, too.

    Args:
        value: From :func:`auroc`; NaN without prompts of both classes.
        harmful: How many prompts are harmful.
        harmless: How many are not.
    """
    if math.isnan(value):
        return MISSING
    low, high = _lowest_area(value, harmful, harmless), 1 - _lowest_area(1 - value, harmful, harmless)
    return Estimate(value, min(low, value), max(high, value), harmful + harmless)


def _lowest_area(value: float, harmful: int, harmless: int) -> float:
    pairs, mean = harmful * harmless, (harmful + harmless) / 2 - 1

    def too_far(theta: float) -> bool:
        spread = 1 + mean * (1 - theta) / (2 - theta) + mean * theta / (1 + theta)
        return (value - theta) ** 2 > Z * Z * theta * (1 - theta) * spread / pairs

    below, above = 0.0, value
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        below, above = (middle, above) if too_far(middle) else (below, middle)
    return below


def mean_area(draws: Floats, harmful: int, harmless: int) -> Estimate:
    """A mean of AUROCs over languages and seeds, with the interval of its logit.

    On that scale the interval is symmetric, two bootstrap standard errors wide; the percentiles of a mean near 1 cover
    too little. A bootstrap of k prompts of the rarer class has (k − 1)/k of the variance. A mean that no resample moves
    has the interval of one area, see :func:`area`.

    Args:
        draws: [1 + R] the mean in the sample itself, then in the resamples; NaN ones are left out.
        harmful: How many prompts are harmful.
        harmless: How many are not.
    """
    value, fewer = float(draws[0]), min(harmful, harmless)
    there = draws[1:][~np.isnan(draws[1:])]
    error = float(there.std()) if len(there) else 0.0
    if math.isnan(value) or not 0 < value < 1 or not error or fewer < 2:
        return area(value, harmful, harmless)
    error *= math.sqrt(fewer / (fewer - 1))
    logit = math.log(value / (1 - value))
    half = Z * error / (value * (1 - value))
    low, high = ((1 + math.tanh(end / 2)) / 2 for end in (logit - half, logit + half))
    return Estimate(value, low, high, harmful + harmless)


def over_seeds(by_seed: Floats, covariance: Floats) -> tuple[float, float]:
    """Standard error of a mean over seeds, for other seeds and other prompts.

    All seeds answer the same prompts, as readers of a study read the same cases (Obuchowski and Rockette, 1995). With S
    seeds, the variance s² of what they give, and the mean variance v and covariance c that the prompts give it,

        SE² = c + max(s², v − c)/S

    The prompts alone account for v − c of s², so that it is never taken to be less.

    Args:
        by_seed: [S] what each seed gives, at least two of them.
        covariance: [S, S] of these over prompts.

    Returns:
        The error, and the degrees of freedom of its t distribution by Hillis (2007), (S − 1)(SE²)² / (SE² − c)²; they
        are infinite where seeds add nothing.
    """
    seeds = len(by_seed)
    alone = float(np.diag(covariance).mean())
    shared = max(0.0, float((covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))))
    spread, of_prompts = float(by_seed.var(ddof=1)), alone - shared
    if spread <= of_prompts:
        return math.sqrt(shared + of_prompts / seeds), math.inf
    apart = spread / seeds
    return math.sqrt(shared + apart), (seeds - 1) * ((shared + apart) / apart) ** 2


def half_width(error: float, freedom: float = math.inf) -> float:
    """Half of an interval of these many standard errors, of a t distribution with these degrees of freedom."""
    if math.isinf(freedom):
        return Z * error
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error


def beyond(errors: float, freedom: float = math.inf) -> float:
    """Two-sided p-value of a figure that is so many standard errors away from what it is held against."""
    if math.isinf(freedom):
        return 2 * (1 - NormalDist().cdf(errors))
    from scipy.stats import t

    return 2 * float(t.sf(errors, freedom))
