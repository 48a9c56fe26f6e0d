import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.evaluation.representation import pair_figures
from mlc.losses import consistency_loss


def test_by_hand():
    # Mean English state (1, 1): centred rows (1, 0) and (-1, 0); the others (0, 2) and (-3, 0).
    english = np.array([[2.0, 1.0], [0.0, 1.0]])
    other = np.array([[1.0, 3.0], [-2.0, 1.0]])
    figures = pair_figures(english, other)
    assert figures.matched.tolist() == pytest.approx([0.0, 1.0])
    # English 0 with other 1: -1; English 1 with other 0: 0.
    assert figures.unmatched == pytest.approx(-0.5)
    # Raw cosines: (2 + 3) / sqrt(50) and 1 / sqrt 5.
    assert figures.collinearity == pytest.approx((1 + (5 / math.sqrt(50) + 1 / math.sqrt(5)) / 2) / 2)
    assert figures.centred_collinearity == pytest.approx((1 + 0.5) / 2)


def test_equal_states_agree_fully():
    states = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    figures = pair_figures(states, states)
    assert figures.matched == pytest.approx(np.ones(6))
    assert (figures.collinearity, figures.centred_collinearity) == pytest.approx((1, 1))
    assert figures.unmatched < 0.5


def test_opposite_states_are_collinear_and_not_alike():
    states = np.array([[1.0, 0.0], [-1.0, 0.0]])
    figures = pair_figures(states, -states)
    assert figures.matched.tolist() == [-1, -1]
    assert figures.centred_collinearity == 1.0


def test_collapsed_prompts_raise_the_unmatched_figure_too():
    generator = np.random.default_rng(0)
    english = generator.normal(size=(30, 8))
    collapsed = np.tile(english.mean(axis=0) + 1.0, (30, 1))
    figures = pair_figures(english, collapsed)
    assert figures.unmatched == pytest.approx(figures.matched.mean(), abs=0.1)


def test_a_single_prompt_has_no_others():
    figures = pair_figures(np.array([[1.0, 2.0]]), np.array([[2.0, 4.0]]))
    assert math.isnan(figures.unmatched)
    # Its English state is the mean, so nothing is left after centring.
    assert figures.matched.tolist() == [0.0]
    assert figures.collinearity == pytest.approx(1.0)


def test_zero_states_give_no_nan():
    figures = pair_figures(np.zeros((3, 4)), np.ones((3, 4)))
    assert figures.collinearity == 0.5
    assert figures.matched.tolist() == [0, 0, 0]


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(2, 6))
def test_collinearity_is_that_of_the_loss(seed, prompts, size):
    import torch

    english, other = np.random.default_rng(seed).normal(size=(2, prompts, size))
    z = torch.tensor(np.stack([english, other], axis=1))
    figures = pair_figures(english, other)
    assert figures.collinearity == pytest.approx(consistency_loss(z).collinearity.mean().item(), abs=1e-9)
    assert (np.abs(figures.matched) <= 1 + 1e-9).all()


def test_halves_are_computed_in_double_precision():
    states = np.full((2, 4), 300.0, dtype=np.float16)
    assert pair_figures(states, states).collinearity == pytest.approx(1.0)
