"""Bits per character of neutral texts: figures by hand, and what is paired."""

import math

import pytest
from scipy import stats

from mlc.errors import UserError
from mlc.evaluation.ability import (
    bits_change,
    bits_of,
    measure_ability,
    neutral_texts,
    plain_ability,
    read_ability,
    write_abilities,
)
from mlc.evaluation.bits import bits_per_character
from mlc.evaluation.results import MISSING
from mlc.evaluation.suites.loading import LoadedSuite, SuitePrompt

SUITE = LoadedSuite(
    "mine",
    "1",
    "CC0-1.0",
    {
        "eng_Latn": [SuitePrompt("a", "Burn.", "harmful", "x"), SuitePrompt("c", "Bake bread.", "harmless", "x")],
        "spa_Latn": [SuitePrompt("c", "Hornea pan.", "harmless", "x")],
    },
)


def test_a_ratio_of_texts_of_one_length_has_the_interval_of_a_mean():
    bits = [10.0, 14.0, 9.0, 17.0]
    found = bits_of({str(place): (value, 5) for place, value in enumerate(bits)})
    low, high = stats.t.interval(0.95, 3, loc=2.5, scale=stats.sem([value / 5 for value in bits]))
    assert (found.value, found.low, found.high) == pytest.approx((2.5, low, high))
    assert found.n == 4


def test_a_difference_is_paired_by_text():
    old = {"a": (10.0, 5), "b": (90.0, 10), "c": (20.0, 20)}
    new = {name: (bits + 0.5 * count, count) for name, (bits, count) in old.items()}
    found = bits_change({**new, "d": (1.0, 1)}, old)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.n == 3


def test_no_text_and_one():
    assert bits_of({}) == MISSING
    assert bits_change({"a": (1.0, 1)}, {}) == MISSING
    one = bits_of({"a": (6.0, 4)})
    assert (one.value, one.n) == (1.5, 1)
    assert math.isnan(one.low)


def test_a_model_on_the_harmless_prompts(tiny_policy, tmp_path):
    texts, aside = neutral_texts("suite", SUITE)
    assert texts == {"eng_Latn": ["Bake bread."], "spa_Latn": ["Hornea pan."]}
    assert not aside
    found = measure_ability(tiny_policy, texts, model="tiny")
    assert bits_of(found.by_language["spa_Latn"]).value == pytest.approx(
        bits_per_character(tiny_policy, ["Hornea pan."])
    )
    write_abilities(tmp_path, [found])
    again = read_ability(tmp_path, "before")
    assert again.by_language == found.by_language
    (difference,) = plain_ability("suite", [found, again])["differences"]
    assert difference["languages"]["spa_Latn"]["value"] == 0
    assert b"Hornea" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_table_of_texts(tmp_path):
    table = tmp_path / "neutral.csv"
    table.write_text("text,language\nThe sun.,en\nThe sun.,en\nEl sol.,es\nJua.,sw\nX.,qqq\n,es\n")
    texts, aside = neutral_texts(str(table), SUITE)
    assert texts == {"eng_Latn": ["The sun."], "spa_Latn": ["El sol."]}
    assert sum(aside.values()) == 3
    table.write_text("text,language\nJua.,sw\n")
    with pytest.raises(UserError, match="no neutral text in eng_Latn, spa_Latn"):
        neutral_texts(str(table), SUITE)
    with pytest.raises(UserError, match="no figures of neutral texts"):
        read_ability(tmp_path, "before")
