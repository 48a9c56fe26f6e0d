"""The shipped table of length ratios is what its maker makes."""

import csv
import math

import pytest

from mlc.quality.length_table import GUESSES, NTREX_LANGUAGES, centre_and_spread, visible_length
from mlc.quality.signals.length import LENGTH_RATIOS


def test_visible_length():
    assert visible_length("a b\u00a0c\u200b") == 3
    assert visible_length("e\u0301") == 1


def test_centre_and_spread_by_hand():
    centre, spread = centre_and_spread(["abc", "abc", "abc", " "], ["abc", "abcdefg", "abcdefghijklmno", "x"])
    assert centre == pytest.approx(math.log(2))
    assert spread == pytest.approx(1.4826 * math.log(2))


def test_shipped_table_is_reproduced(shared_data):
    folder = shared_data("ntrex128")
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        rows = {row["key"]: row for row in csv.DictReader(handle)}
    assert set(rows) == {"eng_Latn", *NTREX_LANGUAGES.values(), *GUESSES}
    sources = (folder / "newstest2019-src.eng.txt").read_text(encoding="utf-8").split("\n")
    translations = (folder / "newstest2019-ref.swa.txt").read_text(encoding="utf-8").split("\n")
    centre, spread = centre_and_spread(sources, translations)
    assert float(rows["swh_Latn"]["centre"]) == pytest.approx(centre, abs=1e-4)
    assert float(rows["swh_Latn"]["spread"]) == pytest.approx(spread, abs=1e-4)
