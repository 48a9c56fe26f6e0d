"""The shipped table of length ratios is what its maker makes."""

import csv
import math

import pytest

from mlc.languages import all_languages
from mlc.making.length_table import GUESSES, measure, ratio_of, through_pivots, visible_length
from mlc.quality.measuring import LENGTH_RATIOS


def test_visible_length():
    assert visible_length("a b\u00a0c\u200b") == 3
    assert visible_length("e\u0301") == 1


def test_ratio_by_hand():
    ratio = ratio_of(["abc", "abc", "abc", " "], ["abc", "abcdefg", "abcdefghijklmno", "x"])
    assert ratio.centre == pytest.approx(math.log(2))
    assert ratio.spread == pytest.approx(1.4826 * math.log(2))
    assert ratio.length == 3


def test_shipped_table_is_reproduced(shared_data):
    folder = shared_data("ntrex128").parent
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        shipped = list(csv.DictReader(handle))
    made = measure(folder)
    assert [(row["key"], row["origin"]) for row in shipped] == [(key, origin) for key, _, origin in made]
    assert len({row["key"] for row in shipped}) == len(shipped)
    for found, (_, ratio, _) in zip(shipped, made, strict=True):
        assert float(found["centre"]) == pytest.approx(ratio.centre, abs=1e-4)
        assert float(found["spread"]) == pytest.approx(ratio.spread, abs=1e-4)
        assert (float(found["length"]) if found["length"] else None) == pytest.approx(ratio.length, abs=1e-2)


def test_shipped_table_fits_other_translations(everyday):
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        shipped = {row["key"]: (float(row["centre"]), float(row["spread"])) for row in csv.DictReader(handle)}
    for code, texts in everyday.translations.items():
        ratio = ratio_of(everyday.sources, texts)
        assert ratio.centre == pytest.approx(shipped[code][0], abs=1.5 * shipped[code][1]), code
        assert ratio.spread < 1.5 * shipped[code][1], code


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
    ratios = {key: ratio for key, ratio, _ in measure(folder)}
    found = through_pivots(folder, "et", ratios)
    assert found.centre == pytest.approx(ratios["est_Latn"].centre, abs=0.5 * found.spread)
