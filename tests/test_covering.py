"""What the default run takes of a product."""

import itertools

import pytest

from tests.covering import chosen, dealt, pairwise


def taken(cases):
    return [case.values for case in cases if not case.marks]


def pairs(cases):
    return {pair for case in cases for pair in itertools.combinations(enumerate(case), 2)}


def test_dealt_takes_each_of_the_first_once_and_each_combination_of_the_others():
    cases = dealt("abcdefg", [1, 2], "xy")
    assert [case.values for case in cases] == list(itertools.product("abcdefg", [1, 2], "xy"))
    assert [case[0] for case in taken(cases)] == list("abcdefg")
    assert {case[1:] for case in taken(cases)} == set(itertools.product([1, 2], "xy"))


def test_pairwise_takes_few_cases_that_hold_every_pair():
    cases = pairwise("abc", range(4), [False, True])
    whole = [case.values for case in cases]
    assert whole == list(itertools.product("abc", range(4), [False, True]))
    assert pairs(taken(cases)) == pairs(whole)
    # No two values of the longest two axes can share a case.
    assert 12 <= len(taken(cases)) <= 14


def test_chosen_cases_are_cases():
    assert [getattr(case, "values", case) for case in chosen({"a": 1, "b": 2, "c": 3}, "b")] == [("a",), "b", ("c",)]
    with pytest.raises(KeyError, match="lost"):
        chosen(["a", "b"], "lost")
