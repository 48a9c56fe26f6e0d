import math

import pytest

from flows.terminal.outcome_tables import _cell
from mlc.evaluation.results import Estimate
from mlc.report.wording import (
    chance,
    check_name,
    check_words,
    checks_in_order,
    difference,
    language_place,
    named,
    number,
    percent,
    setting,
    signed,
)
from tasks.runtime.artifacts import plain


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.914, ".91"), (1.0, "1.00"), (-0.03, "−.03"), (-0.001, ".00"), (13.14, "13.14"), (math.nan, "–"), (None, "–")],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize("place", range(41))
def test_a_figure_is_the_same_number_wherever_it_is_shown(place):
    """All halves go away from zero: .525 is .53 and 53 %, a fifteenth of a binary digit below or above it or not."""
    told = (25 * place + 5) // 10
    figure = Estimate(-place / 40, math.nan, math.nan, 40)
    cells = {"value": place / 40, "low": place / 40, "high": place / 40}
    assert number(place / 40) == (f".{told:02}" if told < 100 else "1.00")
    assert percent(place / 40) == f"{told} %"
    assert _cell(cells) == f"{told} \\[{told}, {told}]"
    assert plain(cells) == f"{told / 100:.2f} [{told / 100:.2f}, {told / 100:.2f}]"
    assert signed(figure.value) == number(figure.value) == f"{'−' * (told > 0)}{number(place / 40)}"
    assert number(1 - (40 - place) / 40) == number(place / 40)


@pytest.mark.parametrize(("p", "text"), [(0.00049, "< .001"), (0.001, ".001"), (0.0312, ".031"), (math.nan, "–")])
def test_no_chance_is_zero(p, text):
    assert chance(p) == text


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


def test_checks_of_a_gate_are_told_in_the_order_and_the_words_of_all_tables():
    estimate = {"value": -0.5, "low": -0.75, "high": -0.25, "n": 8}
    facts = {"where": "", "suite": "unsure", "against": "base", "demand": "≥ -0.03 (point)", "verdict": "failed"}
    codes = ["swh_Latn", "arb_Arab", "deu_Latn", "eng_Latn"]
    checks = [
        {**facts, "figure": "unsure", "name": "unsure: unsure − base", "estimate": estimate, "passed": passed}
        | {"languages": [code], "where": f"worst: {code}"}
        for passed, code in zip((True, True, False, True), codes, strict=True)
    ]
    words = [check_words(check) for check in checks_in_order(checks)]
    assert [place for _, place, *_ in words] == [
        f"worst: {name}" for name in ("English", "German", "Modern Standard Arabic", "Swahili")
    ]
    figures = ["−0.500", "[−0.750, −0.250]", "≥ −0.03 (point)", "failed", "8"]
    assert words[0] == ["unsure: Judge unsure − base", "worst: English", *figures]
    assert check_name({"figure": "of another release", "name": "its name"}) == "its name"
    assert sorted(codes, key=lambda code: language_place(code, ("deu_Latn", "swh_Latn")))[:2] == [
        "deu_Latn",
        "swh_Latn",
    ]


def test_codes_of_languages_become_names():
    assert setting("fra_Latn, swh_Latn") == "French, Swahili"
    assert named("unpaired prompts fra_Latn") == "unpaired prompts French"
    assert named("Into fra_Latn, at w/fra_Latn/x, 'fra_Latn' and fra_Latn.json.") == (
        "Into French, at w/fra_Latn/x, 'fra_Latn' and fra_Latn.json."
    )
    assert named("in fra_Latn.") == "in French."
    assert named("abc_Defg and my_fra_Latn") == "abc_Defg and my_fra_Latn"
