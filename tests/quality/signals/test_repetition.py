"""Signal repetition: (source, translation, language, dropped)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.text.repetitions import loop_share, repetitions

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


def share_one_by_one(text, n):
    grams = [text[start : start + n] for start in range(len(text) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else np.nan


@given(
    st.lists(st.none() | st.text("ab c字", max_size=60) | st.text("abcdefghij ", max_size=400), max_size=8),
    st.sampled_from([4, 10]),
)
@settings(max_examples=60)
def test_many_texts_at_once_are_measured_as_one_by_one(texts, n):
    shares, loops = repetitions(pa.array(texts, pa.string()), np.full(len(texts), n))
    expected = [(share_one_by_one(text or "", n), loop_share(text)) for text in texts]
    np.testing.assert_allclose(shares, [share for share, _ in expected])
    np.testing.assert_allclose(loops, [np.nan if loop is None else loop for _, loop in expected])


@pytest.mark.parametrize("unit", [1, 3, 4, 5, 9, 10, 11, 40, 80])
def test_loops_of_every_length_are_found_and_not_across_texts(unit):
    letters = "abcdefghijklmnopqrstuvwxyzäöüõçñéèêàáâøåæœþðłšžčćđ" * 2
    block = letters[:unit]
    texts = pa.array(["", block * 3, block * 2, block, None, block + block])
    _, loops = repetitions(texts, np.full(len(texts), 10))
    assert loops[1] == pytest.approx(loop_share(block * 3))
    assert loops[1] > 0.6
    assert list(loops[[2, 3, 5]]) == [0, 0, 0]
    assert np.isnan(loops[[0, 4]]).all()


def test_letters_that_only_writing_out_makes_alike_are_no_loop():
    assert loop_share("Großstadt ... 1000") > 0
    _, loops = repetitions(pa.array(["Großstadt ... 1000", "Ja, aaah ... 1000"]), np.array([10, 10]))
    assert loops[0] == 0
    assert loops[1] > 0
