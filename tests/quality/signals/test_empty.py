"""Signal empty: (source, translation, language, dropped)."""

import pytest

CASES = [
    ("Good morning.", None, "spa_Latn", True),
    ("Good morning.", "", "spa_Latn", True),
    ("Good morning.", " \t\n\u00a0\u3000", "zho_Hans", True),
    ("Good morning.", "\u200b\u200f\ufeff", "arb_Arab", True),
    ("Good morning.", "…", "spa_Latn", True),
    ("Good morning.", "\x00", "spa_Latn", True),
    ("...", "...", "spa_Latn", False),
    ("👍", "👍", "spa_Latn", False),
    ("\u200b", "\u200b", "spa_Latn", False),
    (" ", None, "spa_Latn", False),
    ("Yes.", "是", "zho_Hans", False),
    ("Seven", "٧", "arb_Arab", False),
]


@pytest.mark.parametrize(("source", "translation", "language", "dropped"), CASES)
def test_cases(judged, source, translation, language, dropped):
    row = judged[source, translation, language]
    assert row["signal_empty"] is dropped
    assert ("empty" in row["reasons"]) is dropped


def test_other_signals_are_not_applicable(judge):
    row = judge("Call {name} at 5.30. It is urgent.", " ", "spa_Latn", finished=True, logprob=-0.5)
    assert row["reasons"] == ["empty"]
    known = {"signal_empty", "signal_source_letters", "signal_finished"}
    assert {name for name, value in row.items() if name.startswith("signal_") and value is not None} == known
