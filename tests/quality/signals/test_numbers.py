"""Signal numbers: (source, translation, language, share kept, numbers changed)."""

import pytest

CASES = [
    ("It has 120 million trees", "1億2000万本の木があります", "jpn_Jpan", 1.0, 0),
    ("It has 120 million trees", "1億3000万本の木があります", "jpn_Jpan", 0.0, 1),
    ("It has 120 million trees", "1억 2천만 그루", "kor_Hang", 1.0, 0),
    ("It has 12 million trees", "इसमें 1 करोड़ 20 लाख पेड़ हैं", "hin_Deva", 1.0, 0),
    ("It has 1,200,000 trees", "Ina miti milioni 1 na elfu 200", "swh_Latn", 1.0, 0),
    ("It has 15,000 trees", "有1万5000棵树", "zho_Hans", 1.0, 0),
    ("It has 2.5 million trees", "Es hat 2,5 Millionen Bäume", "deu_Latn", 1.0, 0),
    ("Six of 20 roses", "20 roses dont 6 rouges", "fra_Latn", 1.0, 0),
    ("The first two of 7 boxes", "Die ersten 2 von sieben Kisten", "deu_Latn", 0.0, 0),
    ("The 70s and the 60s", "Miaka ya 1970 na 1960", "swh_Latn", 0.0, 0),
    ("In the 70s", "In den 1980er Jahren", "deu_Latn", 0.0, 1),
    ("Since the 1930s", "自20世纪30年代以来", "zho_Hans", 0.0, 0),
    ("The SS19 collection", "La colección de 2019", "spa_Latn", 0.0, 0),
    ("I have 3 cats", "Tengo 3 gatos", "spa_Latn", 1.0, 0),
    ("I have 3 cats", "Tengo 4 gatos", "spa_Latn", 0.0, 1),
    ("I have 3 cats", "Tengo tres gatos", "spa_Latn", 0.0, 0),
    ("I have twelve cats", "Tengo 12 gatos", "spa_Latn", None, None),
    ("It costs 1,250.50 dollars", "Kostet 1.250,50 Dollar", "deu_Latn", 1.0, 0),
    ("It costs 12,000 dollars", "Coûte 12 000 dollars", "fra_Latn", 1.0, 0),
    ("It costs 12,000 dollars", "Coûte 12\u202f000 dollars", "fra_Latn", 1.0, 0),
    ("In 2019 and 45 more", "في ٢٠١٩ و ٤٥ آخرين", "arb_Arab", 1.0, 0),
    ("In 2019 and 45 more", "۲۰۱۹ میں اور ۴۵ مزید", "urd_Arab", 1.0, 0),
    ("In 2019 and 45 more", "२०१९ में और ४५", "hin_Deva", 1.0, 0),
    ("In 2019 and 45 more", "२०१८ में और ४५", "hin_Deva", 0.5, 1),
    ("1.2 million people", "12 लाख लोग", "hin_Deva", 1.0, 0),
    ("3 million people", "300万人", "zho_Hans", 1.0, 0),
    ("Meet at 7:30", "Treffen um 7.30 Uhr", "deu_Latn", 1.0, 0),
    ("Meet at 7.30", "Rendez-vous à 07h30", "fra_Latn", 1.0, 0),
    ("They won 2-1", "Sie gewannen 2:1", "deu_Latn", 1.0, 0),
    ("Meet at 3 p.m. today", "Quedamos hoy a las 15:00", "spa_Latn", 0.0, 0),
    ("Meet at 3 p.m. today", "Quedamos hoy a las 16:00", "spa_Latn", 0.0, 1),
    ("Music of the 1980s", "Música de los años 80", "spa_Latn", 0.0, 0),
    ("Music of the 1980s", "Música de los años 90", "spa_Latn", 0.0, 1),
    ("Up to 10 inches of rain in 2019", "Hasta 25 centímetros de lluvia en 2019", "spa_Latn", 0.5, 0),
    ("Up to 10 inches of rain in 2019", "Hasta 25 centímetros de lluvia en 2018", "spa_Latn", 0.0, 1),
    ("From 2 to 4 inches, a 20-degree fall", "Von 5 bis 10 cm, 12 Grad weniger", "deu_Latn", 0.0, 0),
    ("From 2 to 4 kilometres", "Von 5 bis 10 Kilometern", "deu_Latn", 0.0, 2),
    ("200 miles from here", "321 kilómetros de aquí", "spa_Latn", 0.0, 0),
    ("200 miles from here", "900 kilómetros de aquí", "spa_Latn", 0.0, 1),
    ("At 80 degrees", "Bei 27 Grad", "deu_Latn", 0.0, 0),
    ("Step 1.2.3 feet 0 inches", "Schritt 5 0", "deu_Latn", 1 / 3, 1),
    ("Meet at 3 p.m. today", "Tukutane leo saa 9 mchana", "swh_Latn", 0.0, 0),
    ("Meet at 10:15 today", "Tukutane leo saa 4:15", "swh_Latn", 0.5, 0),
    ("Meet at 10:15 today", "Tukutane leo saa 5:15", "swh_Latn", 0.5, 1),
    ("Meet at 3 p.m. today", "Quedamos hoy a las 9", "spa_Latn", 0.0, 1),
    ("5 and 5 and 7", "5 y 7 y 7", "spa_Latn", 2 / 3, 1),
    ("No numbers", "Sin números 9", "spa_Latn", None, None),
    ("See https://example.org/42", "Vea https://example.org/42", "spa_Latn", None, None),
]


@pytest.mark.parametrize(("source", "translation", "language", "kept", "changed"), CASES)
def test_cases(judged, source, translation, language, kept, changed):
    row = judged[source, translation, language]
    assert row["signal_numbers_kept"] == (None if kept is None else pytest.approx(kept))
    assert row["signal_numbers_changed"] == changed
    assert ("numbers" in row["reasons"]) is bool(changed)
