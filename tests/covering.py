"""Fewer, stronger cases: what the default run takes of a whole product; the rest is marked ``full``."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

Case = tuple[Any, ...]


def dealt(first: Iterable[Any], *others: Iterable[Any]) -> list[Any]:
    """Every value of the first axis once, with the combinations of the others dealt out in turn.

    For a first axis that is long, such as the families of models: each combination of the others occurs too.

    Returns:
        The whole product, for ``pytest.mark.parametrize``.
    """
    first, whole = list(first), list(itertools.product(*others))
    # From the last one on: the plainest case is seldom the one that finds something.
    taken = {(value, *whole[-1 - number % len(whole)]) for number, value in enumerate(first)}
    return _marked([(value, *case) for value in first for case in whole], taken)


def pairwise(*axes: Iterable[Any]) -> list[Any]:
    """As few cases as a greedy choice needs for every pair of values of two axes.

    Returns:
        The whole product, for ``pytest.mark.parametrize``.
    """
    whole = list(itertools.product(*axes))
    left, taken = set().union(*map(_pairs, whole)), set()
    while left:
        best = max(whole, key=lambda case: len(_pairs(case) & left))
        taken.add(best)
        left -= _pairs(best)
    return _marked(whole, taken)


def chosen(cases: Iterable[Any], *names: str) -> list[Any]:
    """The named cases of a table; the others are of the full run.

    Args:
        cases: Cases, the keys of a table.
        names: Those of the default run.

    Raises:
        KeyError: A name is no case.
    """
    cases = list(cases)
    unknown = set(names) - set(cases)
    if unknown:
        raise KeyError(*sorted(unknown))
    return [case if case in names else pytest.param(case, marks=pytest.mark.full) for case in cases]


def _pairs(case: Case) -> set[tuple[tuple[int, Any], ...]]:
    return set(itertools.combinations(enumerate(case), 2))


def _marked(whole: Iterable[Case], taken: set[Case]) -> list[Any]:
    return [pytest.param(*case, marks=() if case in taken else pytest.mark.full) for case in whole]
