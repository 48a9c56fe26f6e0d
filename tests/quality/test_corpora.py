"""Clean human translations are kept, damaged ones are found. Rows are told by number, never by text.

A pair whose translation belongs to another source of the same length is not found: nothing here reads meaning.
"""

import json
import re
from itertools import islice

import pyarrow as pa
import pytest

from mlc.making.length_table import NTREX_LANGUAGES
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings

MAX_FALSE_REJECTS = 0.02
EVERY = 4
"""One NTREX sentence in so many: 500 a language keep the test short."""


def table_of(rows):
    sources, translations, languages = zip(*rows, strict=True)
    return pa.table(
        {
            "source": sources,
            "translation": translations,
            "source_language": ["eng_Latn"] * len(sources),
            "target_language": languages,
        }
    )


def ntrex(folder, tag):
    side = "src" if tag == "eng" else "ref"
    lines = (folder / f"newstest2019-{side}.{tag}.txt").read_text(encoding="utf-8").splitlines()
    return lines[::EVERY]


def dropped_share(rows):
    """Returns, for each language, the share of rows that are dropped and the numbers of those rows."""
    judged = filter_pairs(table_of(rows), QualitySettings()).select(["target_language", "keep"]).to_pylist()
    found = {}
    for number, row in enumerate(judged):
        found.setdefault(row["target_language"], []).append(None if row["keep"] else number)
    return {
        code: (sum(number is not None for number in numbers) / len(numbers), [n for n in numbers if n is not None])
        for code, numbers in found.items()
    }


def test_clean_news_is_kept(shared_data):
    folder = shared_data("ntrex128")
    english = ntrex(folder, "eng")
    rows = [
        (source, translation, code)
        for tag, code in NTREX_LANGUAGES.items()
        for source, translation in zip(english, ntrex(folder, tag), strict=True)
    ]
    shares = dropped_share(rows)
    assert len(shares) == 8
    assert {code: found for code, found in shares.items() if found[0] > MAX_FALSE_REJECTS} == {}


def test_clean_prompts_are_kept(shared_data):
    folder = shared_data("polyrefuse")

    def prompts(tag):
        with (folder / f"harmless_val_{tag}.jsonl").open(encoding="utf-8") as handle:
            return {row["row"]: row["prompt"] for row in map(json.loads, islice(handle, 120))}

    english = prompts("en")
    languages = {"es": "spa_Latn", "fr": "fra_Latn", "de": "deu_Latn", "ar": "arb_Arab"}
    rows = [
        (english[row], prompt, code)
        for tag, code in languages.items()
        for row, prompt in prompts(tag).items()
        if row in english
    ]
    shares = dropped_share(rows)
    assert {code: found for code, found in shares.items() if found[0] > MAX_FALSE_REJECTS} == {}


def next_number(match):
    return str(int(match[0]) + 1)


def loop_tail(text):
    return text + text[-10:] * 6


DAMAGE = {
    "source copied": (lambda row: row["source"], "copied", 0.98),
    "wrong language": (lambda row: row["other"], "wrong_language", 0.96),
    "looped tail": (lambda row: loop_tail(row["translation"]), "repetition", 0.97),
    "wrong script": (lambda row: row["other_script"], "wrong_script", 1.0),
    "number changed": (lambda row: re.sub(r"[0-9]+", next_number, row["translation"]), "numbers", 0.97),
    "empty": (lambda row: " ", "empty", 1.0),
    "half cut": (lambda row: row["translation"][: len(row["translation"]) // 2], None, 0.85),
}
"""Damage, the reason that should be among those found (None: any), the share that has to be found."""


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(shared_data, name):
    damage, reason, least = DAMAGE[name]
    folder = shared_data("ntrex128")
    english, german, arabic = (ntrex(folder, tag) for tag in ("eng", "deu", "arb"))
    rows = []
    for tag, code in (("spa", "spa_Latn"), ("swa", "swh_Latn"), ("hin", "hin_Deva"), ("zho-CN", "zho_Hans")):
        if name == "wrong language" and code in ("hin_Deva", "zho_Hans"):
            continue  # There the script tells it already.
        for source, translation, other, other_script in zip(english, ntrex(folder, tag), german, arabic, strict=True):
            whole = {"source": source, "translation": translation, "other": other, "other_script": other_script}
            if name == "number changed" and not (re.search("[0-9]", source) and re.search("[0-9]", translation)):
                continue
            rows.append((source, damage(whole), code))
    judged = filter_pairs(table_of(rows), QualitySettings()).to_pylist()
    found = sum(bool(row["reasons"]) if reason is None else reason in row["reasons"] for row in judged)
    assert found / len(judged) >= least, f"{name}: {found} of {len(judged)}"
