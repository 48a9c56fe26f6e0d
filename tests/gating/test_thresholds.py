"""Thresholds of a gate, against values by hand."""

import pytest
import torch

from mlc.errors import UserError
from mlc.gating.fitting import LinearScore
from mlc.gating.reading import Read
from mlc.gating.settings import PromptGateSettings
from mlc.gating.thresholds import (
    bounding_threshold,
    labelled_threshold,
    matched_threshold,
    raised_for_parts,
    thresholds_of,
)


@pytest.mark.parametrize(
    ("english", "threshold"),
    [
        # Two of four lie above 0 in English, so that two do in the language: half-way between 3 and 2.
        ([5.0, 1.0, -1.0, -5.0], 2.5),
        ([5.0, -1.0, -1.0, -5.0], 6.5),
        ([-1.0, -1.0, -1.0, -5.0], 11.0),
        ([1.0, 1.0, 1.0, 5.0], 0.0),
    ],
)
def test_the_threshold_without_labels_lets_as_many_through(english: list[float], threshold: float) -> None:
    scores = torch.tensor([1.0, 10.0, 2.0, 3.0])
    found = matched_threshold(scores, torch.tensor(english))
    assert found == threshold
    assert int((scores > found).sum()) == sum(value > 0 for value in english)


def test_the_threshold_of_a_part_is_higher_the_more_parts_there_are() -> None:
    harmless = torch.tensor([4.0, 3.0, 2.0, 1.0, -1.0, -2.0, -3.0, -4.0])
    # Half lie above: of 8 prompts 4, for two parts 2 each, for three or four 1 each, and beyond the last by 1 for none.
    assert raised_for_parts(harmless, 5) == (0.0, 2.5, 3.5, 3.5, 5.0)
    # Where none is refused, nothing has to be; a part is never refused more easily than the whole.
    assert raised_for_parts(torch.tensor([-1.0, -2.0, -3.0]), 3) == (0.0, 0.0, 0.0)
    assert raised_for_parts(harmless, 1) == (0.0,)


def test_a_language_that_is_English_shifted_gets_the_shift() -> None:
    english = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    assert matched_threshold(english - 7, english) == -7.0


def test_the_threshold_of_one_label_a_class() -> None:
    assert labelled_threshold(torch.tensor([4.0, -1.0]), torch.tensor([True, False])) == 1.5
    four = torch.tensor([4.0, 6.0, -1.0, 1.0])
    assert labelled_threshold(four, torch.tensor([True, True, False, False])) == 2.5


def test_a_bound_is_counted_from_the_threshold_by_shares() -> None:
    harmful = torch.tensor([True, True, False, False])
    score = LinearScore(torch.ones(1, dtype=torch.float64), 0.0)
    states = {
        "eng_Latn": Read(torch.arange(4), torch.tensor([[2.0], [1.0], [-1.0], [-2.0]])),
        "spa_Latn": Read(torch.arange(4), torch.tensor([[9.0], [8.0], [6.0], [5.0]])),
    }
    tried = {"eng_Latn": torch.tensor([1.0, 1.0, -3.0, -4.0]), "spa_Latn": torch.tensor([1.0, -1.0, 2.0, -2.0])}

    def found(bound: float | None, labels: int = 0) -> list[float]:
        settings = PromptGateSettings(false_refusals=bound, labels=labels)
        return list(thresholds_of(score, states, tried, harmful, settings).values())

    assert found(None) == [0.0, 7.0]
    # One of two may be refused, and is: nothing to raise. None may: above 2 by 1 in Spanish, and English stays.
    assert found(0.5) == [0.0, 7.0]
    assert found(0.0) == [0.0, 7.0 + 3.0]
    # By one label a class the threshold is 7.5, which is counted from 0 itself.
    assert found(None, labels=1) == [0.0, 7.5]
    assert found(0.0, labels=1) == [0.0, 10.0]


@pytest.mark.parametrize(("share", "threshold", "above"), [(0.0, 5.0, 0), (0.3, 3.0, 1), (0.5, 1.5, 2), (1.0, 0.0, 4)])
def test_the_threshold_above_which_lies_no_more_than_a_share(share: float, threshold: float, above: int) -> None:
    scores = torch.tensor([1.0, 4.0, 2.0, 1.0])
    found = bounding_threshold(scores, share)
    assert found == threshold
    assert int((scores > found).sum()) == above


def test_a_share_is_not_lost_to_rounding() -> None:
    # .29 times 100 is 28.999999999999996.
    assert bounding_threshold(torch.arange(100.0), 0.29) == 70.5


def test_thresholds_of_nothing_are_refused() -> None:
    for scores, share in ((torch.zeros(0), 0.5), (torch.zeros(2), 1.5), (torch.zeros(2), -0.1)):
        with pytest.raises(ValueError, match="the share in"):
            bounding_threshold(scores, share)
    with pytest.raises(UserError, match="needs a harmful and a harmless prompt"):
        labelled_threshold(torch.tensor([1.0]), torch.tensor([True]))
    with pytest.raises(UserError, match="0 beside 0"):
        matched_threshold(torch.zeros(0), torch.zeros(0))
    with pytest.raises(UserError, match="2 beside 1"):
        matched_threshold(torch.zeros(2), torch.zeros(1))
