"""Signal wrong_script: (translation, language, share, dropped)."""

import pyarrow as pa
import pytest

from mlc.languages import all_languages
from mlc.quality.measuring.tables import compute_signals

SOURCE = "Good morning to all of you"
SCRIPT_CASES = [
    ("Habari ya asubuhi", "swh_Latn", 1.0, False),
    ("Хабари я асубухи", "swh_Latn", 0.0, True),
    ("صباح الخير يا أصدقاء", "arb_Arab", 1.0, False),
    ("صَبَاحُ الخَيـــر", "arb_Arab", 1.0, False),
    ("sabah al khayr", "arb_Arab", 0.0, True),
    ("शुभ प्रभात।", "hin_Deva", 1.0, False),
    ("सेब abcd", "hin_Deva", 2 / 6, True),
    ("NASA की रिपोर्ट", "hin_Deva", 1.0, False),
    ("{user_name} की रिपोर्ट https://example.org/path", "hin_Deva", 1.0, False),
    ("早上好", "zho_Hans", 1.0, False),
    ("早上好 Sam", "zho_Hans", 7.5 / 10.5, False),
    ("おはようございます、ラーメン、日本", "jpn_Jpan", 1.0, False),
    ("좋은 아침 漢字", "kor_Hang", 1.0, False),
    ("おはよう", "zho_Hans", 0.0, True),
    ("ᱥᱟᱱᱛᱟᱲᱤ", "sat_Beng", 1.0, False),
    ("ⵜⴰⵎⴰⵣⵉⵖⵜ", "tzm_Tfng", 1.0, False),
    ("བོད་སྐད།", "bod_Tibt", 1.0, False),
    ("ᠮᠣᠩᠭᠣᠯ", "khk_Cyrl", 0.0, True),
    ("1234 !?", "arb_Arab", None, False),
]
CASES = [(SOURCE, *case) for case in SCRIPT_CASES]


@pytest.mark.parametrize(("source", "translation", "language", "share", "dropped"), CASES)
def test_cases(judged, source, translation, language, share, dropped):
    row = judged[source, translation, language]
    assert row["signal_script"] == (None if share is None else pytest.approx(share))
    assert ("wrong_script" in row["reasons"]) is dropped


def test_every_script_of_the_language_table_is_covered():
    codes = [language.code for language in all_languages()]
    table = pa.table(
        {
            "source": ["word"] * len(codes),
            "translation": ["ꙮ"] * len(codes),
            "source_language": ["eng_Latn"] * len(codes),
            "target_language": codes,
        }
    )
    shares = compute_signals(table)["signal_script"].to_pylist()
    assert [code for code, share in zip(codes, shares, strict=True) if share is None] == []
