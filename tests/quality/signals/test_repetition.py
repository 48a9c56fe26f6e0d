"""Signal repetition: (source, translation, language, dropped)."""

import pytest

from mlc.quality.signals.repetition import loop_share

SENTENCE = "Please tell me how to bake bread at home without an oven."
CASES = [
    (SENTENCE, "Por favor, dime cómo hornear pan en casa sin un horno.", "spa_Latn", False),
    (SENTENCE, "Por favor, dime cómo hornear pan en casa en casa en casa en casa en casa en casa.", "spa_Latn", True),
    (SENTENCE, "请告诉我如何在家烤面包烤面包烤面包烤面包烤面包烤面包。", "zho_Hans", True),
    (SENTENCE, "请告诉我如何在没有烤箱的情况下在家烤面包。", "zho_Hans", False),
    (SENTENCE, "من فضلك أخبرني كيف أخبز الخبز الخبز الخبز الخبز الخبز الخبز", "arb_Arab", True),
    (SENTENCE, "โปรดบอกฉันวิธีอบขนมปังขนมปังขนมปังขนมปังขนมปัง", "tha_Thai", True),
    ("No, no, no, no, no, no.", "No, no, no, no, no, no.", "spa_Latn", False),
    ("Ha ha ha ha ha ha!", "哈哈哈哈哈哈！", "zho_Hans", False),
    ("The sum is 10000000000000.", "La suma es 10000000000000.", "spa_Latn", False),
    ("Wait ..............", "Espera ..............", "spa_Latn", False),
    ("Little by little", "Pole pole", "swh_Latn", False),
]


@pytest.mark.parametrize(("source", "translation", "language", "dropped"), CASES)
def test_cases(judged, source, translation, language, dropped):
    assert ("repetition" in judged[source, translation, language]["reasons"]) is dropped


@pytest.mark.parametrize(
    ("text", "share"),
    [("abab", 0.0), ("ababab", 4 / 6), ("xxabcabcabcyy", 6 / 13), ("111111", 0.0), ("", None), (None, None)],
)
def test_loop_share_by_hand(text, share):
    assert loop_share(text) == (None if share is None else pytest.approx(share))


def test_share_by_hand(judge):
    # Twelve characters twice, no space: 15 grams of 10 characters, of which the last three occurred before.
    assert judge("one", "abcdefghijkl" * 2, "spa_Latn")["signal_repetition_share"] == pytest.approx(3 / 15)


def test_short_text_has_no_ngrams(judge):
    row = judge("Yes.", "Sí.", "spa_Latn")
    assert row["signal_repetition_share"] is None
    assert row["signal_repetition_loop"] == 0
