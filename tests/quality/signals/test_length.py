"""Signal length: z by hand, and who is dropped."""

import csv
import math

import pytest

from mlc.quality.measuring import LENGTH_RATIOS

SOURCE = "The library is closed on Sunday morning, but you can return the books at the entrance."


def row_of(key):
    with LENGTH_RATIOS.open(encoding="utf-8", newline="") as handle:
        return next(row for row in csv.DictReader(handle) if row["key"] == key)


def variance(row):
    """That of a language: what the length of the texts explains is no part of it."""
    spread = float(row["spread"])
    if row["length"]:
        return max(spread**2 - 1.6 / float(row["length"]), 0.08**2)
    return spread**2


@pytest.mark.parametrize(("language", "key"), [("spa_Latn", "spa_Latn"), ("zho_Hant", "Hant"), ("ewe_Latn", "*")])
def test_z_by_hand(judge, language, key):
    table = row_of(key)
    row = judge("a" * 50, "b" * 70, language)
    ratio = math.log(71 / 51)
    spread = math.sqrt(variance(table) + 1.6 / 50)
    assert row["signal_length_log_ratio"] == pytest.approx(ratio)
    assert row["signal_length_z"] == pytest.approx((ratio - float(table["centre"])) / spread)


def test_pair_without_english_uses_both_centres(judge):
    row = judge("a" * 50, "b" * 70, "spa_Latn", source_language="zho_Hans")
    centre = float(row_of("spa_Latn")["centre"]) - float(row_of("zho_Hans")["centre"])
    spread = math.sqrt(variance(row_of("spa_Latn")) + variance(row_of("zho_Hans")) + 1.6 / 50)
    assert row["signal_length_z"] == pytest.approx((math.log(71 / 51) - centre) / spread)


@pytest.mark.parametrize(
    ("source", "translation", "language", "dropped"),
    [
        (
            SOURCE,
            "La biblioteca está cerrada el domingo, pero puede devolver los libros en la entrada.",
            "spa_Latn",
            False,
        ),
        (SOURCE, "Cerrada el domingo.", "spa_Latn", True),
        (SOURCE, "palabra distinta " * 20, "spa_Latn", True),
        (SOURCE, "图书馆周日上午关闭，但您可以在入口处还书。", "zho_Hans", False),
        (SOURCE, "المكتبة مغلقة صباح الأحد، لكن يمكنك إعادة الكتب عند المدخل.", "arb_Arab", False),
        (
            "BBC Scotland's Alasdair Lamont spoke at the Tony Macaroni Arena",
            "BBC Scotland 的 Alasdair Lamont 在 Tony Macaroni 球场发表讲话",
            "zho_Hans",
            False,
        ),
        (SOURCE, SOURCE + "图书馆周日上午关闭，但您可以在入口处还书。", "zho_Hans", True),
        ("OK", "De acuerdo", "spa_Latn", False),
        ("Why?", "¿Por qué?", "spa_Latn", False),
    ],
)
def test_cases(judge, source, translation, language, dropped):
    assert ("length" in judge(source, translation, language)["reasons"]) is dropped


def test_blank_source_is_not_applicable(judge):
    assert judge(" ", "algo", "spa_Latn")["signal_length_z"] is None
