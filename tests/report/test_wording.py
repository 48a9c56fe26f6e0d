import math

import pytest

from mlc.evaluation.results import Estimate
from mlc.report.wording import difference, named, number, setting, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.914, ".91"), (1.0, "1.00"), (-0.03, "−.03"), (-0.001, ".00"), (13.14, "13.14"), (math.nan, "–"), (None, "–")],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.08, "+.08"), (-0.08, "−.08"), (0.0, ".00"), (0.001, ".00")])
def test_signs(value, text):
    assert signed(value) == text


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Estimate(0.08, 0.03, 0.13, 80), "+.08 [.03, .13]"),
        (Estimate(0.01, -0.02, 0.03, 80), "+.01 [−.02, .03]"),
        # Two digits would show a bound of zero, although the interval excludes it.
        (Estimate(0.02, 0.004, 0.05, 80), "+.020 [.004, .050]"),
    ],
)
def test_differences(figure, text):
    assert difference(figure).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "yes"),
        (1.0, "1"),
        (["spa_Latn", "xyz"], "Spanish, xyz"),
        ([], "none"),
        ({"layer": 0.5, "anchor": "english"}, "layer 0.5, anchor english"),
    ],
)
def test_settings(value, text):
    assert setting(value) == text


def test_codes_of_languages_become_names():
    assert setting("fra_Latn, swh_Latn") == "French, Swahili"
    assert named("unpaired prompts fra_Latn") == "unpaired prompts French"
    assert named("abc_Defg and my_fra_Latn") == "abc_Defg and my_fra_Latn"
