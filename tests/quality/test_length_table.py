"""The shipped table of length ratios is what its maker makes."""

import csv
import math

import pytest

from mlc.languages import all_languages
from mlc.making.length_table import GUESSES, centre_and_spread, measure, through_pivots, visible_length
from mlc.quality.measuring import LENGTH_RATIOS


def test_visible_length():
    assert visible_length("a b\u00a0c\u200b") == 3
    assert visible_length("e\u0301") == 1


def test_centre_and_spread_by_hand():
    centre, spread = centre_and_spread(["abc", "abc", "abc", " "], ["abc", "abcdefg", "abcdefghijklmno", "x"])
    assert centre == pytest.approx(math.log(2))
    assert spread == pytest.approx(1.4826 * math.log(2))


def test_shipped_table_is_reproduced(shared_data):
    folder = shared_data("ntrex128").parent
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        shipped = [
            (row["key"], float(row["centre"]), float(row["spread"]), row["origin"]) for row in csv.DictReader(handle)
        ]
    made = measure(folder)
    assert [(row[0], row[3]) for row in shipped] == [(row[0], row[3]) for row in made]
    assert len({row[0] for row in shipped}) == len(shipped)
    for found, expected in zip(shipped, made, strict=True):
        assert found[1:3] == pytest.approx(expected[1:3], abs=1e-4)


def test_shipped_table_fits_other_translations(everyday):
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        shipped = {row["key"]: (float(row["centre"]), float(row["spread"])) for row in csv.DictReader(handle)}
    for code, texts in everyday.translations.items():
        centre, spread = centre_and_spread(everyday.sources, texts)
        assert centre == pytest.approx(shipped[code][0], abs=1.5 * shipped[code][1]), code
        assert spread < 1.5 * shipped[code][1], code


def test_every_key_is_a_language_or_a_script():
    codes = {language.code for language in all_languages()}
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    measured = {row["key"] for row in rows if row["origin"] != "guess"}
    assert measured <= codes
    assert {row["key"] for row in rows} - measured == set(GUESSES)


def test_a_pivot_of_two_measured_languages_agrees_with_their_own_ratio(shared_data):
    """Estonian is measured against English and, through Swahili and Chinese, in other texts."""
    folder = shared_data("xcopa_val").parent
    ratios = {row[0]: row[1:3] for row in measure(folder)}
    centre, spread = through_pivots(folder, "et", ratios)
    assert centre == pytest.approx(ratios["est_Latn"][0], abs=0.5 * spread)
