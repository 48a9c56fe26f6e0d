"""Reliability bins and the calibration error."""

import numpy as np
import pytest

from mlc.quality.reliability import calibration_error, plot_reliability, reliability_bins


def test_bins_and_error_by_hand():
    bins = reliability_bins([0.1, 0.3, 0.5, 0.9], [0, 1, 1, 1], bins=2)
    assert [one.predicted for one in bins] == pytest.approx([0.2, 0.7])
    assert [one.observed.value for one in bins] == [0.5, 1.0]
    assert [one.observed.n for one in bins] == [2, 2]
    # (|0.2 - 0.5| * 2 + |0.7 - 1| * 2) / 4
    assert calibration_error(bins) == pytest.approx(0.3)


def test_equal_predictions_stay_together():
    bins = reliability_bins([0.5] * 9 + [0.9], [1] * 5 + [0] * 4 + [1])
    assert [one.observed.n for one in bins] == [9, 1]


def test_order_does_not_matter():
    draw = np.random.default_rng(0)
    predicted = draw.random(300)
    good = draw.random(300) < predicted
    order = draw.permutation(300)
    bins, others = reliability_bins(predicted, good), reliability_bins(predicted[order], good[order])
    assert [one.observed for one in bins] == [one.observed for one in others]
    assert [one.predicted for one in bins] == pytest.approx([one.predicted for one in others])


def test_a_calibrated_score_has_a_small_error_and_a_shifted_one_its_shift():
    draw = np.random.default_rng(1)
    predicted = draw.uniform(0.2, 0.7, 20_000)
    good = draw.random(20_000) < predicted
    assert calibration_error(reliability_bins(predicted, good)) < 0.015
    assert calibration_error(reliability_bins(predicted + 0.2, good)) == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize(("predicted", "good"), [([], []), ([0.5], [1, 0])])
def test_rows_that_do_not_match_are_refused(predicted, good):
    with pytest.raises(ValueError, match="as long as each other"):
        reliability_bins(predicted, good)


def test_plot_is_a_picture(tmp_path):
    path = tmp_path / "plot.png"
    plot_reliability({"a score": (np.array([0.2, 0.8, 0.9]), np.array([0.0, 1.0, 1.0]))}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
