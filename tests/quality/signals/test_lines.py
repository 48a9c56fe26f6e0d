"""Signal lines: (source, translation, language, share, dropped)."""

import pytest

CASES = [
    ("One\nTwo\nThree", "Uno\nDos\nTres", "spa_Latn", 1.0, False),
    ("One\r\nTwo\r\nThree", "Uno\nDos\nTres", "spa_Latn", 1.0, False),
    ("One\n\n\nTwo", "Uno\nDos", "spa_Latn", 1.0, False),
    ("One\nTwo\nThree", "Uno\nDos", "spa_Latn", 2 / 3, False),
    ("One\nTwo", "Uno Dos", "spa_Latn", 0.5, True),
    ("One Two", "Uno\nDos\nTres", "spa_Latn", 1 / 3, True),
    ("One\nTwo\nThree", "一\n二\n三", "zho_Hans", 1.0, False),
    ("One\nTwo", "واحد\u2028اثنان", "arb_Arab", 1.0, False),
    ("One\nTwo", "หนึ่ง สอง", "tha_Thai", 0.5, True),
    ("One line", "Una línea", "spa_Latn", None, False),
    ("Ends so\n", "Acaba así", "spa_Latn", None, False),
]


@pytest.mark.parametrize(("source", "translation", "language", "share", "dropped"), CASES)
def test_cases(judged, source, translation, language, share, dropped):
    row = judged[source, translation, language]
    assert row["signal_lines"] == (None if share is None else pytest.approx(share))
    assert ("lines" in row["reasons"]) is dropped
