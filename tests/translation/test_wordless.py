"""What has no letter of any script is never asked of an engine or a memory, and comes back as it is."""

import unicodedata
from random import Random

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings
from mlc.translation.engines.protocol import SentenceTranslation, identity_of
from mlc.translation.memory import TranslationMemory
from mlc.translation.translator import Translator

LETTERS = ("Lu", "Ll", "Lt", "Lm", "Lo")
CHARACTERS = st.characters(exclude_categories=("Cn", "Cs", *LETTERS), exclude_characters="\0")
WORDLESS = st.text(CHARACTERS | st.sampled_from("🙂-|.?!\n\u200b 5ー"), max_size=30)
PIECES = st.one_of(WORDLESS, st.sampled_from(["Bake it. ", "{x} 5 {y}, ", "cakes ", "https://a.b "]))


class Shouting:
    """An engine that writes sentences in capitals and notes what it was asked for; it reads a few letters at once."""

    languages = None
    remembers = True

    def __init__(self, *, whole_texts=False, longest_sentence=12):
        self.whole_texts = whole_texts
        self.longest_sentence = longest_sentence
        self.facts = {"engine": "shouting", "version": 1, "model": "", "decoding": {}}
        self.identity = identity_of(self.facts)
        self.asked = []

    def refusals(self, done, *, source, target):
        return {}

    def lengths(self, sentences, *, source):
        return [len(sentence) for sentence in sentences]

    def translate(self, sentences, *, source, targets):
        self.asked += sentences
        for target in targets:
            yield target, {text: SentenceTranslation(text.upper(), None, 0, finished=True) for text in sentences}


def words_in(text):
    return any(unicodedata.category(character) in LETTERS for character in text)


def shouted(engine, texts, memory=None):
    return Translator(engine, memory).translate(texts, source="eng_Latn", target="deu_Latn")


@pytest.mark.parametrize("whole_texts", [False, True])
@given(texts=st.lists(WORDLESS, max_size=4))
@example(texts=["🙂🙂🙂", "---", "|---|---|", "...?!", "\u200b", "→ ✓ ★", "♪ ♪ ♪", "12:30", " \t\n"])
def test_no_engine_sees_it(whole_texts, texts):
    engine = Shouting(whole_texts=whole_texts)
    done = shouted(engine, texts)
    assert [row.text for row in done] == texts
    assert all((row.sentences_in, row.finished, row.lost) == (0, True, ()) for row in done)
    assert engine.asked == []


@given(pieces=st.lists(PIECES, max_size=8))
@example(pieces=["cakes ", "--- 123456789 --- 123456789 ", "cakes "])
def test_between_words_it_is_kept_and_asked_of_nobody(pieces):
    engine = Shouting()
    text = "".join(pieces)
    (done,) = shouted(engine, [text])
    assert all(words_in(sentence) for sentence in engine.asked)
    assert sorted(done.text.casefold().split()) == sorted(text.casefold().split())


def test_no_memory_holds_it(tmp_path):
    engine = Shouting()
    memory = TranslationMemory(tmp_path, engine.identity, engine.facts)
    texts = ["🙂🙂", "Bake it. 🍞 12", "---"]
    shouted(engine, texts, memory)
    assert engine.asked == ["Bake it."]
    assert set(memory.lookup([*texts, "🍞 12", "Bake it."], source="eng_Latn", target="deu_Latn")) == {"Bake it."}


def judged(rows):
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return filter_pairs(
        pa.table(columns, ["source", "translation", "source_language", "target_language"]), QualitySettings()
    ).to_pylist()


def test_the_filter_keeps_it():
    known = ["🙂🙂🙂", "-" * 80, "|---|---|\n|-|-|", "...?!", "\u200b", "♪ ♪ ♪", "12:30", " ", "1 000 000", "00000"]
    wordless = [
        chr(code) for code in range(1, 0x20000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", *LETTERS)
    ]
    draw = Random(0)
    texts = known + ["".join(draw.choices([*wordless, *"0-. "], k=draw.randint(1, 30))) for _ in range(300)]
    rows = [(text, text, "eng_Latn", code) for text in texts for code in ("deu_Latn", "zho_Hans", "tha_Thai")]
    assert [row["reasons"] for row in judged(rows)] == [[]] * len(rows)
