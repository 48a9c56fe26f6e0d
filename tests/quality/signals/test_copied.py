"""Signal copied: (source, translation, language, similarity, dropped)."""

import pytest

CASES = [
    ("Where is the library?", "Where is the library?", "spa_Latn", 1.0, True),
    ("Where is the library?", "WHERE IS THE LIBRARY", "spa_Latn", 1.0, True),
    ("Where is the library?", "Where is the librarý?", "yor_Latn", 1.0, True),
    ("Where is the library?", "¿Dónde está la biblioteca?", "spa_Latn", None, False),
    ("The internet", "The Internet", "deu_Latn", 1.0, False),
    ("Hotel Berlin", "Hotel Berlin", "deu_Latn", 1.0, False),
    ("abcdefghij abcdefghij", "abcdefghij abcdefghix", "spa_Latn", 0.95, True),
    ("abcdefghij abcdefghij", "abcdefghij abcdexxxxx", "spa_Latn", 0.75, False),
    ("Where is the library?", "أين المكتبة؟", "arb_Arab", 0.0, False),
    ("Where is the library?", "图书馆在哪里？", "zho_Hans", 0.0, False),
    ("2 + 2", "2 + 2", "spa_Latn", 1.0, False),
]


@pytest.mark.parametrize(("source", "translation", "language", "similarity", "dropped"), CASES)
def test_cases(judged, source, translation, language, similarity, dropped):
    row = judged[source, translation, language]
    if similarity is not None:
        assert row["signal_copied"] == pytest.approx(similarity, abs=1e-9)
    assert ("copied" in row["reasons"]) is dropped


def test_distance_counts_characters_not_bytes(judge):
    # Two of four letters differ; in UTF-8 bytes it would be two of eight.
    assert judge("абвг", "абде", "rus_Cyrl")["signal_copied"] == pytest.approx(0.5)


def test_no_letters_is_not_applicable(judge):
    assert judge("!?", "!?", "spa_Latn")["signal_copied"] is None


def test_long_texts_of_different_length_are_not_copies(judge):
    start = "the quick brown fox jumps over the lazy dog " * 20
    assert judge(start, start[:300], "spa_Latn")["signal_copied"] < 0.5
