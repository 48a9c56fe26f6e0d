"""Signal sentences: (source, translation, language, share, dropped)."""

import pytest

CASES = [
    ("The sky is blue. The sea is, too.", "Երկինքը կապույտ է: Ծովը նույնպես:", "hye_Armn", 1.0, False),
    ("The sky is blue. The sea is, too.", "Երկինքը կապույտ է։ Ծովը նույնպես։", "hye_Armn", 1.0, False),
    ("The sky is blue. The sea is, too.", "आसमान नीला है।समुद्र भी।", "hin_Deva", 1.0, False),
    ("The sky is blue. The sea is, too.", "आसमान नीला है | समुद्र भी |", "hin_Deva", 1.0, False),
    ("The sky is blue. The sea is, too.", "வானம் நீலம்.கடலும் தான்.", "tam_Taml", 1.0, False),
    ("The sky is blue. The sea is, too.", "ሰማዩ ሰማያዊ ነው፡፡ ባሕሩም፡፡", "amh_Ethi", 1.0, False),
    ("The sky is blue. Is the sea, too?", "السماء زرقاء.هل البحر كذلك؟", "arb_Arab", 1.0, False),
    (
        "Bread, e.g. rye, is 5 ft. long at Miller Co. today.",
        "Brot, etwa Roggen, ist bei Miller 5 Fuß lang.",
        "deu_Latn",
        None,
        False,
    ),
    ("25. We open in spring.", "25.A ó ṣí ní ìrúwé.", "yor_Latn", None, False),
    ("It opens on Oct. 2 at 5 p.m. on Sunday.", "Es öffnet am 2. Oktober um 17 Uhr.", "deu_Latn", None, False),
    ("The sky is blue. The sea is, too.", "आसमान नीला है।", "hin_Deva", 0.5, True),
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
