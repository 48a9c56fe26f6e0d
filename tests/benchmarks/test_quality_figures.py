"""The statistics of the benchmark `quality`, against independent ones."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.benchmarks.quality import bootstrapped, spearman


def test_spearman_with_ties_agrees_with_scipy():
    draw = np.random.default_rng(0)
    human, score = draw.integers(6, size=(3, 40)), draw.integers(4, size=(3, 40))
    expected = [spearmanr(first, second)[0] for first, second in zip(human, score, strict=True)]
    assert spearman(human, score) == pytest.approx(expected)


def test_interval_holds_the_value_and_is_repeatable():
    draw = np.random.default_rng(1)
    human = draw.normal(size=200)
    score = human + draw.normal(size=200)
    found = bootstrapped(spearman, human, score)
    assert found.low < found.value < found.high
    assert found.n == 200
    assert found.value == pytest.approx(spearmanr(human, score)[0])
    assert bootstrapped(spearman, human, score) == found
