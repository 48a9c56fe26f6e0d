from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mlc.evaluation.agreement import cohens_kappa


def test_by_hand():
    # Agreed 20 + 15 of 50; by chance (25 · 30 + 25 · 20) / 2500 = 0.5.
    counts = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    assert cohens_kappa(counts) == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_as_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(20):
        left, right = generator.choice(["refused", "complied", "invalid", "unsure"], (2, 60))
        counts = Counter(zip(left.tolist(), right.tolist(), strict=True))
        assert cohens_kappa(counts) == pytest.approx(cohen_kappa_score(left, right))


@pytest.mark.parametrize("counts", [{}, {("a", "a"): 5}])
def test_not_defined(counts):
    assert cohens_kappa(counts) is None


def test_ends():
    assert cohens_kappa({("a", "a"): 3, ("b", "b"): 3}) == 1.0
    assert cohens_kappa({("a", "b"): 3, ("b", "a"): 3}) == -1.0
    assert cohens_kappa({("a", "b"): 3}) == 0.0
