"""Intervals of shares and of their differences when the same prompts are asked in several languages and seeds.

A prompt is a cluster: what it says in one language tells what it says in the next. A figure is a sum of strata, each
with a sign, such as selectivity: the share of harmful prompts that are refused (+1) minus that of harmless ones (-1).
Languages and seeds count equally within a stratum; prompts are independent, strata are independent.

The standard error is cluster-robust over prompts (Miller, "Adding Error Bars to Evals", arXiv 2411.00640, equation 4).
Alone it would be 0 where all prompts agree, so that three prompts could prove anything. Pseudo-prompts are therefore
added, as published for one language and one seed: to a share two at 0 and two at 1 (Agresti and Coull, 1998), to each
side of a difference of independent shares one at 0 and one at 1 (Agresti and Caffo, 2000), to paired differences one at
-1 and one at +1 (Bonett and Price, 2012). Nothing is drawn at random: the same prompts give the same interval.

A pseudo-prompt that says the same in every cell is a strong one where real prompts do not. Those of differences are
therefore ±√r, with r the variance of a prompt's mean over that of its cells, the pseudo-prompts at ±1 among them: 1
with one cell or where a prompt says the same in all, and the less the more its cells say something of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from mlc.evaluation.intervals import Floats, Z, beyond, half_width, over_seeds
from mlc.evaluation.results import MISSING, Estimate

POWER = 0.8
"""How often a difference that is there shall be shown, unless somebody says otherwise."""

_NORMAL = NormalDist()
_DECIMALS = 12
_SHARE, _SIDE, _CHANGE = (0.0, 0.0, 1.0, 1.0), (0.0, 1.0), (-1.0, 1.0)


@dataclass(frozen=True)
class Stratum:
    """One part of a figure."""

    values: Floats
    """[prompts, cells], a cell being a language of a seed: 1 where it happened, 0 where not, NaN where a prompt does
    not count in a cell. Of a change, the differences of two such tables."""
    sign: Literal[1, -1] = 1
    """How the mean of the values enters the figure."""


@dataclass(frozen=True)
class Change:
    """How much a figure differs between two models that were asked the same prompts."""

    estimate: Estimate
    """The difference with its interval."""
    p: float
    """Two-sided p-value of no difference; below .05 just where the interval excludes 0. NaN with ``n`` 0."""


def mean(strata: Sequence[Stratum]) -> float:
    """A figure without its interval; NaN if a cell of a stratum has no prompt."""
    if not strata or any(np.isnan(stratum.values).all(axis=0).any() for stratum in strata):
        return math.nan
    # Without rounding, .1 + .2 - .3 would be a difference.
    return round(sum(stratum.sign * _mean(stratum.values) for stratum in strata), _DECIMALS)


def share(strata: Sequence[Stratum]) -> Estimate:
    """A figure of one model.

    Args:
        strata: One stratum is a share; two with opposite signs are a difference of shares.

    Returns:
        The figure, its interval within its range, and the number of prompts that count in any cell. NaN with ``n`` 0 if
        a cell of a stratum has no prompt.
    """
    low = -1.0 if any(stratum.sign < 0 for stratum in strata) else 0.0
    return _interval(strata, _SHARE if len(strata) == 1 else _SIDE, low)[0]


def change(strata: Sequence[Stratum], seeds: int = 1) -> Change:
    """How much a figure differs between two models.

    Args:
        strata: Of the figure; values are those of the one model minus those of the other for the same prompt in the
            same cell, in [-1, 1].
        seeds: Of more than one the interval is also for other seeds, see :func:`over_seeds`; the cells are then those
            of the first seed, of the next one, and so on.

    Returns:
        The difference; NaN with ``n`` 0 if a cell of a stratum has no prompt.
    """
    reach = float(len(strata))
    estimate, p = _interval(strata, _CHANGE, -reach, seeds)
    return Change(estimate, p)


def _interval(
    strata: Sequence[Stratum], pseudo: tuple[float, ...], low: float, seeds: int = 1
) -> tuple[Estimate, float]:
    """The figure with its interval, and the p-value of none."""
    value = mean(strata)
    if math.isnan(value):
        return MISSING, math.nan
    n = sum(int((~np.isnan(stratum.values)).any(axis=1).sum()) for stratum in strata)
    more = [np.vstack([stratum.values, *np.outer(pseudo, np.ones(stratum.values.shape[1]))]) for stratum in strata]
    if pseudo == _CHANGE:
        more = [np.vstack([values[:-2], values[-2:] * math.sqrt(_in_common(values))]) for values in more]
    centre, error, freedom = _middle([stratum.sign for stratum in strata], more, seeds)
    half = half_width(error, freedom)
    high = -low if low < 0 else 1.0
    ends = max(low, min(centre - half, value)), min(high, max(centre + half, value))
    return Estimate(value, *ends, n), beyond(abs(centre) / error, freedom)


def _middle(signs: Sequence[int], tables: Sequence[Floats], seeds: int) -> tuple[float, float, float]:
    """The middle of an interval, its standard error and its degrees of freedom."""
    # [prompts, seeds, languages]
    apart = [values.reshape(len(values), seeds, -1) for values in tables]
    by_seed = np.asarray(
        sum(sign * np.nanmean(values, axis=0).mean(axis=1) for sign, values in zip(signs, apart, strict=True))
    )
    covariance = np.asarray(sum(map(_covariance, apart)))
    if seeds == 1:
        return float(by_seed[0]), math.sqrt(covariance[0, 0]), math.inf
    return float(by_seed.mean()), *over_seeds(by_seed, covariance)


def _in_common(values: Floats) -> float:
    """Variance of the mean of a prompt's cells over the mean variance of a cell, from 1 / cells to 1."""
    deviations = values - np.nanmean(values, axis=0)
    of_cells = float(np.nanmean(deviations**2, axis=0).mean())
    return min(1.0, float((np.nanmean(deviations, axis=1) ** 2).mean()) / of_cells)


def _mean(values: Floats) -> float:
    return float(np.nanmean(values, axis=0).mean())


def _covariance(values: Floats) -> Floats:
    """Cluster-robust covariance of seeds: of their means over languages of the means over prompts."""
    counted = ~np.isnan(values)
    # [prompts, seeds]
    deviations = (np.where(counted, values - np.nanmean(values, axis=0), 0.0) / counted.sum(axis=0)).mean(axis=2)
    covariance: Floats = deviations.T @ deviations
    return covariance


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for being several (Holm, 1979): one below .05 stays so whatever the others are.

    Args:
        p_values: In [0, 1]; NaN where nothing was tested, which counts for nothing and stays NaN.

    Returns:
        Adjusted p-values in the same order, each at least what it was and at most 1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted


def prompts_needed(difference: float, discordant: float, power: float = POWER) -> int:
    """How many prompts show a difference between two models that answer the same ones (McNemar's test).

    The formula is that of Connor (1987): n = (z_a sqrt(d) + z_b sqrt(d - x²))² / x², for a difference x, a share d of
    prompts on which the models differ, and the normal quantiles z_a for 95 % confidence, two-sided, and z_b for the
    power. In several languages the same number is needed of each, if each shall be shown by itself.

    Args:
        difference: Between the two shares, above 0 and at most ``discordant``.
        discordant: Share of prompts that one model refuses and the other does not, in (0, 1].
        power: How often the difference shall be shown, in (0, 1).

    Raises:
        ValueError: An argument is out of its range.
    """
    _check_power(discordant, power)
    if not 0 < difference <= discordant:
        raise ValueError(f"difference must be above 0 and at most discordant = {discordant}, not {difference}.")
    found = _quantiles(discordant, power, difference) ** 2 / difference**2
    # A whole number that rounding has put just above itself is that number.
    return math.ceil(round(found, 9))


def difference_shown(prompts: int, discordant: float, power: float = POWER) -> float:
    """The smallest difference that so many prompts show, the inverse of :func:`prompts_needed`.

    Args:
        prompts: At least 1.
        discordant: As there.
        power: As there.

    Returns:
        The difference; NaN if even the largest possible one, ``discordant``, would not be shown.

    Raises:
        ValueError: An argument is out of its range.
    """
    _check_power(discordant, power)
    if prompts < 1:
        raise ValueError(f"prompts must be at least 1, not {prompts}.")
    low, high = 0.0, discordant
    if _quantiles(discordant, power, high) > high * math.sqrt(prompts):
        return math.nan
    for _ in range(60):
        middle = (low + high) / 2
        enough = _quantiles(discordant, power, middle) <= middle * math.sqrt(prompts)
        low, high = (low, middle) if enough else (middle, high)
    return high


def _quantiles(discordant: float, power: float, difference: float) -> float:
    return Z * math.sqrt(discordant) + _NORMAL.inv_cdf(power) * math.sqrt(discordant - difference**2)


def _check_power(discordant: float, power: float) -> None:
    for name, value in (("discordant", discordant), ("power", power)):
        if not 0 < value <= 1 or (name == "power" and value == 1):
            raise ValueError(f"{name} must be between 0 and 1, not {value}.")
