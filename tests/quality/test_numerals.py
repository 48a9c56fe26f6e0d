"""Numbers in words, and with words for powers of ten."""

import csv

import pytest

from mlc.languages import all_languages
from mlc.text.numerals import NUMERALS, numerals_of


@pytest.mark.parametrize(
    ("code", "text", "digits"),
    [
        ("eng_Latn", "120 million trees", "120000000 trees"),
        ("eng_Latn", "2.5 million or 3", "2500000 or 3"),
        ("eng_Latn", "in 2,500 thousand ways", "in 2500000 ways"),
        ("jpn_Jpan", "1億2000万本", "120000000本"),
        ("zho_Hans", "1万5000棵", "15000棵"),
        ("zho_Hans", "5万3万", "5万3万"),
        ("kor_Hang", "1억 2천만 그루", "120000000 그루"),
        ("hin_Deva", "1 करोड़ 20 लाख पेड़", "12000000 पेड़"),
        ("swh_Latn", "miti milioni 1 na elfu 200", "miti 1200000"),
        ("deu_Latn", "1,23456 Tausend", "1,23456 Tausend"),
        ("deu_Latn", "Milliarden", "Milliarden"),
        ("tso_Latn", "5 million", "5 million"),
    ],
)
def test_powers_of_ten(code, text, digits):
    assert numerals_of(code).in_digits(text) == digits


@pytest.mark.parametrize(
    ("code", "text", "values"),
    [
        ("eng_Latn", "Two boxes, twenty-five roses, one way", [2, 25]),
        ("deu_Latn", "fünfundzwanzig und zwei", [25, 2]),
        ("fra_Latn", "Six roses, vingt-deux lis", [6, 22]),
        ("hin_Deva", "दो लड़के", [2]),
        ("zho_Hans", "二十五本书，三天", [25, 3]),
        ("tso_Latn", "two", []),
    ],
)
def test_words(code, text, values):
    assert numerals_of(code).written(text) == values


def test_the_table_names_languages_and_no_word_twice():
    with NUMERALS.open(encoding="utf-8", newline="") as handle:
        rows = [tuple(row.values()) for row in csv.DictReader(handle)]
    assert {row[0] for row in rows} <= {language.code for language in all_languages()}
    assert len({row[:3] for row in rows}) == len(rows) > 4000


def test_the_table_is_what_cldr_says():
    pytest.importorskip("babel", reason="not needed but for making the table")
    pytest.importorskip("unicode_rbnf", reason="not needed but for making the table")
    from mlc.making.numerals import rows

    with NUMERALS.open(encoding="utf-8", newline="") as handle:
        assert [tuple(row.values()) for row in csv.DictReader(handle)] == [tuple(map(str, row)) for row in rows()]
