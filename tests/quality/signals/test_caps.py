"""Signal caps: (source, translation, language, share, dropped)."""

import pytest

SOURCE = "Please close the door behind you"
CASES = [
    (SOURCE, "Cierre la puerta al salir", "spa_Latn", 0.0, False),
    (SOURCE, "CIERRE LA PUERTA AL SALIR", "spa_Latn", 1.0, True),
    (SOURCE, "XKQJW PLMZT RRNVB", "hin_Deva", 1.0, True),
    (SOURCE, "ЗАКРОЙТЕ ДВЕРЬ ЗА СОБОЙ", "rus_Cyrl", 1.0, True),
    ("PLEASE CLOSE THE DOOR", "CIERRE LA PUERTA AL SALIR", "spa_Latn", 0.0, False),
    (SOURCE, "La NASA cerró la puerta", "spa_Latn", 4 / 19, False),
    (SOURCE, "NASA", "spa_Latn", 1.0, False),
    (SOURCE, "请随手关门", "zho_Hans", 0.0, False),
    (SOURCE, "أغلق الباب خلفك", "arb_Arab", 0.0, False),
    (SOURCE, "123 !", "spa_Latn", None, False),
]


@pytest.mark.parametrize(("source", "translation", "language", "share", "dropped"), CASES)
def test_cases(judged, source, translation, language, share, dropped):
    row = judged[source, translation, language]
    assert row["signal_caps"] == (None if share is None else pytest.approx(share))
    assert ("caps" in row["reasons"]) is dropped
