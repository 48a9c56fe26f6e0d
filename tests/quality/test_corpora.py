"""Clean human translations are kept, damaged ones are found. Rows are told by number, never by text.

A pair whose translation belongs to another source of the same length is not found: nothing here reads meaning.
"""

import json
import re
from itertools import islice

import pyarrow as pa
import pytest

from mlc.evaluation.intervals import wilson
from mlc.languages import ENGLISH
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings
from mlc.shipped import shipped_data
from tests.benchmarks.kept import dropped_rows, human_text

MAX_FALSE_REJECTS = 0.02
MAX_OF_A_LANGUAGE = 0.01


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


def assert_kept(rows, languages):
    """Few are dropped, and no language shows that more are; a failure tells their numbers."""
    judged = filter_pairs(table_of(rows), QualitySettings()).select(["target_language", "keep"]).to_pylist()
    dropped = {code: [] for _, _, code in rows}
    for number, row in enumerate(judged):
        if not row["keep"]:
            dropped[row["target_language"]].append(number)
    assert len(dropped) == languages
    assert sum(map(len, dropped.values())) <= MAX_FALSE_REJECTS * len(rows), dropped
    each = len(rows) / languages
    assert {
        code: numbers for code, numbers in dropped.items() if wilson(len(numbers), each).low > MAX_FALSE_REJECTS
    } == {}


def test_clean_translations_are_kept(corpus):
    rows = [
        (source, translation, code)
        for code, texts in corpus.translations.items()
        for source, translation in zip(corpus.sources, texts, strict=True)
    ]
    assert_kept(rows, languages=8)


def test_the_shipped_references_are_kept():
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()
    references = [json.loads(line) for line in lines]
    rows = [
        (row[ENGLISH], row[code], code) for code in references[0] if code not in ("id", ENGLISH) for row in references
    ]
    assert_kept(rows, languages=6)


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
    assert_kept(rows, languages=4)


@pytest.mark.parametrize(
    ("sets", "limit", "languages"), [(("xcopa_val",), 60, 10), pytest.param(None, None, 23, marks=pytest.mark.full)]
)
def test_human_text_in_every_language_is_kept(shared_data, sets, limit, languages):
    """No language shows that more than one complete translation in a hundred is dropped, in either half of the rows."""
    texts = [text for text in human_text(shared_data("xcopa_val").parent) if sets is None or text.name in sets]
    for half in range(2) if sets is None else [1]:
        found = dropped_rows(texts, half, limit)
        assert len(found) == languages
        too_many = {
            code: one.places for code, one in found.items() if wilson(len(one.places), one.rows).low > MAX_OF_A_LANGUAGE
        }
        assert too_many == {}


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


def test_damage_is_found(corpus):
    missed = {}
    for name, (damage, reason, least) in DAMAGE.items():
        judged = filter_pairs(table_of(list(damaged(corpus, name, damage))), QualitySettings()).to_pylist()
        found = sum(bool(row["reasons"]) if reason is None else reason in row["reasons"] for row in judged)
        if not found / len(judged) >= least:
            missed[name] = (found, len(judged))
    assert missed == {}


def damaged(corpus, name, damage):
    german, arabic = (corpus.translations[code] for code in ("deu_Latn", "arb_Arab"))
    for code in ("spa_Latn", "swh_Latn", "hin_Deva", "zho_Hans"):
        if name == "wrong language" and code in ("hin_Deva", "zho_Hans"):
            continue  # There the script tells it already.
        texts = zip(corpus.sources, corpus.translations[code], german, arabic, strict=True)
        for source, translation, other, other_script in texts:
            whole = {"source": source, "translation": translation, "other": other, "other_script": other_script}
            if name == "number changed" and not (re.search("[0-9]", source) and re.search("[0-9]", translation)):
                continue
            yield source, damage(whole), code
