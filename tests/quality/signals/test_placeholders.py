"""Signal placeholders: (source, translation, language, share, dropped)."""

import pytest

CASES = [
    ("Hello {name}, welcome", "Hola {name}, bienvenido", "spa_Latn", 1.0, False),
    ("Hello {name}, welcome", "Hola {nombre}, bienvenido", "spa_Latn", 0.0, True),
    ("{a} and {b} and {a}", "{a} y {b}", "spa_Latn", 2 / 3, True),
    ("Use ${HOME} or {{ user.name }}", "استخدم ${HOME} أو {{ user.name }}", "arb_Arab", 1.0, False),
    ("Click <b>here</b> now", "点击<b>这里</b>", "zho_Hans", 1.0, False),
    ("Click <b>here</b> now", "点击这里", "zho_Hans", 0.0, True),
    ("%s has %d new messages", "%s ina ujumbe mpya %d", "swh_Latn", 1.0, False),
    ("Go to https://example.org/a?b=1.", "访问https://example.org/a?b=1。", "zho_Hans", 1.0, False),
    ("Write to help@example.org.", "Escriba a ayuda@example.org.", "spa_Latn", 0.0, True),
    ("If a < b and c > d, stop", "Si a < b y c > d, pare", "spa_Latn", None, False),
    ("A discount of 50% said the shop", "Un descuento del 50 % dijo la tienda", "spa_Latn", None, False),
    ("Nothing special here", "Nada especial aquí", "spa_Latn", None, False),
]


@pytest.mark.parametrize(("source", "translation", "language", "share", "dropped"), CASES)
def test_cases(judged, source, translation, language, share, dropped):
    row = judged[source, translation, language]
    assert row["signal_placeholders"] == (None if share is None else pytest.approx(share))
    assert ("placeholders" in row["reasons"]) is dropped
