import math

import pytest
import torch

from mlc.losses.feedback import feedback_loss

GOOD = torch.tensor([True, False])


def test_values_by_hand():
    # beta (r - z) is ln 3 for both: 1 - σ(ln 3) = 1/4 of a good answer, and 1 - σ(-ln 3) = 3/4 of a bad one.
    rewards = torch.full((2,), 2 * math.log(3) + 1)
    found = feedback_loss(rewards, GOOD, 1.0, beta=0.5, good_weight=2.0, bad_weight=4.0)
    assert found.loss.tolist() == pytest.approx([0.5, 3.0])
    weighted = feedback_loss(rewards, GOOD, 1.0, beta=0.5, row_weights=torch.tensor([3.0, 0.0]))
    assert weighted.loss.tolist() == pytest.approx([0.75, 0.0])


def test_before_the_first_step_it_is_half_the_weight():
    found = feedback_loss(torch.zeros(2), GOOD, good_weight=1.0, bad_weight=3.0)
    assert found.loss.tolist() == [0.5, 1.5]


def test_the_gradient_raises_good_answers_lowers_bad_ones_and_leaves_the_point_alone():
    rewards, point = torch.zeros(2, requires_grad=True), torch.zeros((), requires_grad=True)
    feedback_loss(rewards, GOOD, point, beta=0.4).loss.sum().backward()
    # -beta σ(0) σ(0), and the same upwards.
    assert rewards.grad.tolist() == pytest.approx([-0.1, 0.1])
    assert point.grad is None


def test_far_on_its_side_there_is_next_to_nothing_to_learn():
    rewards = torch.tensor([1000.0, -1000.0], requires_grad=True)
    found = feedback_loss(rewards, GOOD)
    found.loss.sum().backward()
    assert found.loss.tolist() == pytest.approx([0.0, 0.0])
    assert rewards.grad.tolist() == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"good": torch.tensor([True])}, "rewards must be"),
        ({"good": torch.tensor([1, 0])}, "rewards must be"),
        ({"rewards": torch.tensor([math.nan, 0.0])}, "must be finite"),
        ({"reference_point": math.inf}, "one finite number"),
        ({"reference_point": torch.zeros(2)}, "one finite number"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"good_weight": -1.0}, "weights at least 0"),
        ({"row_weights": torch.tensor([-1.0, 1.0])}, "row_weights must be"),
    ],
)
def test_wrong_values_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        feedback_loss(**{"rewards": torch.zeros(2), "good": GOOD, **given})
