"""Signal sentences: (source, translation, language, share, dropped)."""

import pytest

CASES = [
    ("One. Two. Three.", "Uno. Dos. Tres.", "spa_Latn", 1.0, False),
    ("One. Two. Three.", "Uno.", "spa_Latn", 1 / 3, True),
    ("One. Two.", "Uno y dos.", "spa_Latn", 0.5, False),
    ("One. Two. Three.", "一。二。三。", "zho_Hans", 1.0, False),
    ("Really? Yes! Sure.", "حقا؟ نعم! أكيد.", "arb_Arab", 1.0, False),
    ("One. Two. Three.", "एक। दो। तीन।", "hin_Deva", 1.0, False),
    ("Why? Who? Where?", "Γιατί; Ποιος; Πού;", "ell_Grek", 1.0, False),
    ("One. Two. Three", "Uno. Dos. Tres", "spa_Latn", 1.0, False),
    ("Mr. Smith of St. Ives came.", "El señor Smith de San Ives vino.", "spa_Latn", None, False),
    ("It costs 3.50 here.", "Cuesta 3,50 aquí.", "spa_Latn", None, False),
    ("One. Two. Three.", "หนึ่ง สอง", "tha_Thai", None, False),
]


@pytest.mark.parametrize(("source", "translation", "language", "share", "dropped"), CASES)
def test_cases(judged, source, translation, language, share, dropped):
    row = judged[source, translation, language]
    assert row["signal_sentences"] == (None if share is None else pytest.approx(share))
    assert ("sentences" in row["reasons"]) is dropped
