"""Signal invented: (source, translation, language, dropped)."""

import pytest

CASES = [
    ("🙂🙂🙂", "Ich bin froh.", "deu_Latn", True),
    ("---", "नमस्ते", "hin_Deva", True),
    ("\u200b", "Lo siento.", "spa_Latn", True),
    ("{name}", "Hola {name}", "spa_Latn", True),
    ("🙂🙂🙂", "🙂🙂🙂", "deu_Latn", False),
    ("100%", "hundert Prozent", "deu_Latn", False),
    ("{name}", "{name}", "spa_Latn", False),
    ("OK 🙂", "Gut 🙂", "deu_Latn", False),
    ("🙂", None, "deu_Latn", None),
]


@pytest.mark.parametrize(("source", "translation", "language", "dropped"), CASES)
def test_cases(judged, source, translation, language, dropped):
    row = judged[source, translation, language]
    assert row["signal_invented"] is dropped
    assert ("invented" in row["reasons"]) is bool(dropped)
