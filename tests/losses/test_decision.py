import math

import pytest
import torch

from mlc.losses import decision_loss


def margins(*rows):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


# Values by hand.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"difference": "squared"}, (0.25 + 9.0) / 2),
        # 0.5² is within delta; 3 nats away costs 2 · 1 · 3 − 1² = 5.
        ({"difference": "huber"}, (0.25 + 5.0) / 2),
        ({"difference": "huber", "delta": 0.25}, (2 * 0.25 * 0.5 - 0.0625 + 2 * 0.25 * 3 - 0.0625) / 2),
        ({"difference": "squared", "language_weights": torch.tensor([1.0, 3.0, 1.0])}, (3 * 0.25 + 9.0) / 4),
        ({"difference": "squared", "row_weights": torch.tensor([[1.0, 0.0, 0.5]])}, 9.0),
        ({"difference": "squared", "mask": torch.tensor([[True, True, False]])}, 0.25),
    ],
)
def test_values_by_hand(options, expected):
    found = decision_loss(margins([1.0, 1.5, -2.0]), **options)
    assert found.loss.item() == pytest.approx(expected)


def test_the_gap_is_in_nats():
    found = decision_loss(margins([1.0, 1.5, -2.0], [0.0, 0.0, 0.0]))
    assert found.gap.tolist() == pytest.approx([1.75, 0.0])
    assert not found.gap.requires_grad


# Gradients.


@pytest.mark.parametrize("difference", ["squared", "huber"])
def test_english_gets_no_gradient_and_translations_move_to_it(difference):
    given = margins([1.0, 1.5, -2.0])
    decision_loss(given, difference=difference).loss.sum().backward()
    english, above, below = given.grad[0].tolist()
    assert english == 0.0
    assert above > 0 > below


def test_huber_grows_no_faster_than_linearly():
    given = margins([0.0, 3.0, 300.0])
    decision_loss(given, difference="huber").loss.sum().backward()
    # 2 · delta / 2 translations, however far.
    assert given.grad[0].tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_both_sides_of_huber_meet():
    below, above = (decision_loss(margins([0.0, 1.0 + step])).loss for step in (-1e-9, 1e-9))
    assert below.item() == pytest.approx(above.item(), abs=1e-7)


# What does not count.


@pytest.mark.parametrize("absent", [math.nan, math.inf, 7.0])
def test_what_is_masked_may_be_anything(absent):
    given = margins([1.0, absent, -2.0], [absent, 3.0, absent])
    mask = torch.tensor([[True, False, True], [False, True, False]])
    found = decision_loss(given, difference="squared", mask=mask).loss
    assert found.tolist() == [9.0, 0.0]
    found.sum().backward()
    assert given.grad.tolist() == [[0.0, 0.0, -6.0], [0.0, 0.0, 0.0]]


def test_english_alone_has_nothing_to_learn():
    given = margins([1.0], [2.0])
    found = decision_loss(given).loss
    found.sum().backward()
    assert found.tolist() == [0.0, 0.0]
    assert given.grad.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (torch.zeros(2), {}, r"must be \[B, L\]"),
        (torch.zeros(0, 2), {}, "at least one of each"),
        (torch.zeros(1, 2), {"difference": "cubic"}, "one of huber, squared, not 'cubic'"),
        (torch.zeros(1, 2), {"delta": 0.0}, "delta must be above 0"),
        (torch.tensor([[0.0, math.nan]]), {}, "must be finite"),
        (torch.zeros(1, 2), {"language_weights": torch.tensor([1.0, -1.0])}, "at least 0; the smallest is -1.0"),
        (torch.zeros(1, 2), {"row_weights": torch.ones(2)}, r"row_weights must be \[1, 2\]"),
    ],
)
def test_mistakes_are_told(given, options, message):
    with pytest.raises(ValueError, match=message):
        decision_loss(given, **options)
