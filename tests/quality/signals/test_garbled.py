"""Signal garbled: (source, translation, language, count, dropped)."""

import pytest

SOURCE = "Where is the library?"
WRITTEN = [
    (SOURCE, "¿Dónde está la biblioteca?", "spa_Latn", 0, False),
    (SOURCE, "Â¿DÃ³nde estÃ¡ la biblioteca?", "spa_Latn", 2, True),
    (SOURCE, "Lâ€™Ã©cole est lÃ ", "fra_Latn", None, True),
    (SOURCE, "Ð³Ð´Ðµ Ð±Ð¸Ð±Ð»Ð¸Ð¾ÑÐµÐºÐ°?", "rus_Cyrl", None, True),
    (SOURCE, "Ø£ÙŠÙ† Ø§Ù„Ù…ÙƒØªØ¨Ø©ØŸ", "arb_Arab", None, True),
    (SOURCE, "à¤ªà¥à¤¸à¥à¤¤à¤•à¤¾à¤²à¤¯ à¤•à¤¹à¤¾à¤", "hin_Deva", None, True),
    (SOURCE, "å›¾ä¹¦é¦†åœ¨å“ªé‡Œï¼Ÿ", "zho_Hans", None, True),
    (SOURCE, "¿Dónde est\ufffd la biblioteca?", "spa_Latn", 1, True),
    (SOURCE, "¿Dónde\x07 está la biblioteca?", "spa_Latn", 1, True),
    (SOURCE, "¿Dónde\x00 está la biblioteca?", "spa_Latn", 1, True),
    (SOURCE, "¿Dónde está \ue000 la biblioteca?", "spa_Latn", 1, True),
    # Near misses: good spelling that a misreading could also have made.
    (SOURCE, "Er sagte: „Das macht Spaß“", "deu_Latn", 0, False),
    (SOURCE, "« Elle est déjà là »", "fra_Latn", 0, False),
    (SOURCE, "«\u00a0Elle est déjà\u00a0»", "fra_Latn", 0, False),
    (SOURCE, "ONDE ESTÁ A MANHÃ…", "por_Latn", 0, False),
    (SOURCE, "ÂGE D’OR", "fra_Latn", 0, False),
    (SOURCE, "Zeile eins\nZeile zwei\tTab", "deu_Latn", 0, False),
    (SOURCE, "أين المكتبة؟", "arb_Arab", 0, False),
    (SOURCE, "图书馆在哪里？👍🏽", "zho_Hans", 0, False),
    (SOURCE, "می\u200cروم", "pes_Arab", 0, False),
    ("A bell \x07 rings", "Suena \x07 una campana", "spa_Latn", 0, False),
]


TEXTS = ["¿Dónde está?", "où êtes-vous né", "где библиотека", "أين المكتبة", "पुस्तकालय कहाँ", "图书馆在哪里"]
MISREAD = {
    (text, misread): text.encode().decode(misread, errors="replace")
    for text in TEXTS
    for misread in ("cp1252", "latin-1")
}
CASES = [*WRITTEN, *((SOURCE, text, "spa_Latn") for text in (*TEXTS, *MISREAD.values()))]


@pytest.mark.parametrize(("source", "translation", "language", "count", "dropped"), WRITTEN)
def test_cases(judged, source, translation, language, count, dropped):
    row = judged[source, translation, language]
    if count is not None:
        assert row["signal_garbled"] == count
    assert ("garbled" in row["reasons"]) is dropped


@pytest.mark.parametrize(("text", "misread"), MISREAD)
def test_every_misreading_is_found(judged, text, misread):
    assert judged[SOURCE, MISREAD[text, misread], "spa_Latn"]["signal_garbled"] > 0
    assert judged[SOURCE, text, "spa_Latn"]["signal_garbled"] == 0
