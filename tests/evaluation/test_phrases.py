import re

import pytest

from mlc.errors import UserError
from mlc.evaluation.judges.phrases import KINDS, Phrasebook, pattern_of, plain, shipped_phrases

BOOKS = shipped_phrases().languages


def examples(phrase):
    """A text for the first and for the last of the alternatives everywhere, with everything optional left out."""
    bare = re.sub(r"\[[^\[\]]*\] ", "", phrase)
    return [_with_alternative(bare, place).replace(" ..", "").replace("*", "") for place in (0, -1)]


def _with_alternative(text, place):
    while "(" in text:
        text = re.sub(r"\(([^()]*)\)", lambda found: found[1].split("|")[place], text)
    return text.split("|")[place]


@pytest.mark.parametrize("code", BOOKS)
def test_every_phrase_of_a_language_is_found(code):
    book = BOOKS[code]
    for kind in KINDS:
        for phrase in book.kinds.get(kind, ()):
            for text in examples(phrase):
                assert book.find(kind, plain(text)), (kind, phrase, text)


def test_what_is_shipped():
    assert len(BOOKS) >= 25
    assert all(book.kinds.get("declines") for book in BOOKS.values())


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("I’M SORRY", "i'm sorry"),
        ("**No** puedo", "no puedo"),
        ("không thể", "khong the"),
        ("لا أستطيعُ", "لا استطيع"),
        ("می‌توانم", "مي توانم"),
        ("ＡＢＣ", "abc"),
        ("café", "cafe\u0301"),
    ],
)
def test_spellings_that_are_one(left, right):
    assert plain(left) == plain(right)


def test_vowel_signs_of_other_scripts_stay():
    assert plain("नहीं") != plain("नह")
    assert plain("が") != plain("か")


@pytest.mark.parametrize(
    ("phrase", "found", "missed"),
    [
        ("I (can't|won't) help", ["i can't help", "no, i won't help"], ["i can help", "hi can't help"]),
        ("[very|so] sorry", ["sorry", "so sorry"], ["sorryness"]),
        ("I cannot .. help", ["i cannot help", "i cannot ever help"], ["i cannot. help", "i cannot a b c d e help"]),
        ("refus*", ["refus", "refusing"], ["arefus"]),
        ("I'm [so] sorry", ["i'm so sorry", "i'm, sorry"], ["i am sorry"]),
    ],
)  # fmt: skip
def test_how_a_phrase_is_written(phrase, found, missed):
    pattern = pattern_of([phrase], "Latn")
    assert all(pattern.search(plain(text)) for text in found)
    assert not any(pattern.search(plain(text)) for text in missed)


def test_scripts_without_spaces_have_no_whole_words():
    assert pattern_of(["我 (不能|无法) .. 帮"], "Hans").search("抱歉我无法为您提供帮助")


def test_and_is_written_together_in_arabic():
    assert pattern_of(["لا أستطيع"], "Arab").search(plain("ولا أستطيع"))


def test_a_language_without_phrases_of_a_kind_finds_none():
    assert not pattern_of([], "Latn").search("anything")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("xxx_Latn: {declines: [no]}", "'xxx_Latn'"),
        ("eng_Latn: {refuses: [nope]}", "'refuses'"),
        ('eng_Latn: {declines: ["I (cannot"]}', "bracket"),
        ('eng_Latn: {declines: ["I cannot [help]"]}', "bracket"),
        ("eng_Latn: {declines: [no]}", "quotation marks"),
        ("eng_Latn: {declines: [", "YAML"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, content, told):
    path = tmp_path / "phrases.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(told)):
        Phrasebook(path).languages["eng_Latn"].pattern("declines")


def test_the_number_of_a_file_changes_with_it(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("eng_Latn: {declines: [I refuse]}")
    two.write_text("eng_Latn: {declines: [I decline]}")
    assert Phrasebook(one).digest == Phrasebook(one).digest != Phrasebook(two).digest
