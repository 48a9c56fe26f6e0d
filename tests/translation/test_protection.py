import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.translation import protection
from mlc.translation.protection import around_spans, has_words, lost_kinds, masked, outer_tags, protected_spans
from mlc.translation.sentences import has_sentences, split_clauses, split_text, split_texts


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("See https://a.b/c?d=e#f.", [("url", "https://a.b/c?d=e#f")]),
        ("(www.a.org)", [("url", "www.a.org")]),
        ("Mail a.b+c@d-e.org, please.", [("email", "a.b+c@d-e.org")]),
        (
            "Hi {name}, ${x} {{ y }} %s %(z)s",
            [("placeholder", t) for t in ("{name}", "${x}", "{{ y }}", "%s", "%(z)s")],
        ),
        (
            "{0} {first name} {x:.2f} {user.name!r} {{ name | upper }} ${total} {姓名}",
            [
                ("placeholder", t)
                for t in ("{0}", "{first name}", "{x:.2f}", "{user.name!r}", "{{ name | upper }}", "${total}", "{姓名}")
            ],
        ),
        ('{"a": "I am here. Come."}', [("placeholder", '{"a": "I am here. Come."}')]),
        ("{Water the roses in the morning}", []),
        ("{{Bring bread. And tea!}} {写一个故事。} {यह है। वह भी।}", []),
        ("a <b class='c'>d</b> <br/>", [("tag", t) for t in ("<b class='c'>", "</b>", "<br/>")]),
        ("run `a b {c}` 2 times", [("code", "`a b {c}`"), ("number", "2")]),
        ("1,000.5 at 12:30 on 2024/01/02", [("number", t) for t in ("1,000.5", "12:30", "2024/01/02")]),
        ("3 < 4 and 5 > 4", [("number", t) for t in "3454"]),
        ("100% sure { } nothing", [("number", "100")]),
    ],
)
def test_finds(text, spans):
    assert [(span.kind, span.text) for span in protected_spans(text)] == spans
    assert all(text[span.start : span.end] == span.text for span in protected_spans(text))


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("See https://a.b now.", "Siehe https://a.b jetzt.", ()),
        ("See https://a.b now.", "Siehe a.b jetzt.", ("url",)),
        ("Hi {name} {name}", "Hallo {name}", ("placeholder",)),
        ("Hi {name} and a@b.c", "Hallo {Name} und a@b", ("email", "placeholder")),
        ("I have 1,000 of 5.", "Ich habe 1.000 von 5.", ()),
        ("I have 12.", "لدي ١٢.", ()),
        ("I have 12.", "Ich habe zwölf.", ("number",)),
        ("5 and 5", "5 und", ("number",)),
        ("Nothing", "Nichts 7 {x}", ()),
    ],
)
def test_what_is_lost(source, translation, lost):
    assert lost_kinds(source, translation) == lost


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("<p>Hi <b>you</b>.</p>", ("<p>", "Hi <b>you</b>.", "</p>")),
        ("<i> <b>Hi</b>", ("<i> <b>", "Hi", "</b>")),
        ("Hi <b>you</b>", ("", "Hi <b>you", "</b>")),
        ("<br/>", ("", "<br/>", "")),
        ("Hi", ("", "Hi", "")),
    ],
)
def test_outer_tags(sentence, parts):
    assert outer_tags(sentence) == parts
    assert "".join(parts) == sentence


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://a.b.", False),
        ("12:30", False),
        ("a 1", True),
        ("{x}: <b>", False),
        *[(text, False) for text in ("🙂", "👩‍👩‍👧", "---", "|---|---|", "...?!", "\u200b", " ", "")],
        *[(text, False) for text in ("٤٨ €", "ー〜", "\u3164", "♪ Ⅳ")],
        *[(text, True) for text in ("ㅋ", "ß", "क", "ⵣ", "𞤀", "{Come in. Sit down.}")],
    ],
)
def test_words(text, found):
    assert has_words(text) is found


def test_pieces_around():
    assert around_spans("Hi {a}, 5 or `b`") == [(False, "Hi "), (True, "{a}"), (False, ", 5 or "), (True, "`b`")]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("- Buy milk.\n- Buy eggs. Now.", ("Buy milk.", "Buy eggs.", "Now.")),
        ("1. First\n  2) Second\n# Title\n> Said", ("First", "Second", "Title", "Said")),
        ("Try this:\n```py\nprint('Hi. You.')\n```\nDone.", ("Try this:", "Done.")),
        ("Go to https://a.b/c. Then stop.", ("Go to https://a.b/c.", "Then stop.")),
        ("Use {a.B} here.", ("Use {a.B} here.",)),
        ("Bake it. 🍞🔥", ("Bake it.",)),
        ("| name | age |\n|---|---|\n| 5 | 7 |", ("| name | age |",)),
        ("https://a.b/c", ()),
        ("<p>One.</p><p>Two.</p>", ("One.</p><p>Two.",)),
        ("1984 was good.", ("1984 was good.",)),
        ("-5 degrees", ("-5 degrees",)),
        ("``` not closed. Yes.", ("``` not closed.", "Yes.")),
    ],
)
def test_splits_what_is_to_translate(text, sentences):
    split = split_text(text, "eng_Latn")
    assert split.sentences == sentences
    assert split.rejoin(split.sentences, target="eng_Latn") == text


@given(
    st.lists(
        st.sampled_from(["a", "B.", " ", "\n", "- ", "1. ", "```", "`", "{x}", "<b>", "</b>", "http://a.b", "?", "5"])
    )
)
def test_nothing_is_lost(pieces):
    text = "".join(pieces)
    split = split_text(text, "eng_Latn")
    assert len(split.separators) == len(split.sentences) + 1
    joined = split.separators[0]
    for sentence, separator in zip(split.sentences, split.separators[1:], strict=True):
        assert sentence == sentence.strip() != ""
        joined += sentence + separator
    assert joined == text


def fits(limit):
    return lambda part: len(part.split()) <= limit


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("one two three", ("one two three",)),
        ("one two, three four, five six", ("one two,", "three four,", "five six")),
        ("one two three four five six", ("one two three", "four five six")),
        ("一二，三四，五六" * 3, ("一二，三四，五六" * 3,)),
        ("see http://a.b/c,d:e and two more words", ("see http://a.b/c,d:e", "and two more words")),
    ],
)
def test_clauses(sentence, parts):
    split = split_clauses(sentence, fits(3) if "http" not in sentence else fits(4))
    assert split.sentences == parts
    assert split.rejoin(split.sentences, target="eng_Latn") == sentence


def test_clauses_without_spaces():
    split = split_clauses("一二，三四，五六", lambda part: len(part) <= 4)
    assert split.sentences == ("一二，", "三四，", "五六")


@given(st.text(alphabet=st.sampled_from("ab ,;、\u3000"), min_size=1, max_size=60), st.integers(1, 10))
def test_clauses_lose_nothing(text, limit):
    sentence = text.strip()
    split = split_clauses(sentence, lambda part: len(part) <= limit)
    joined = split.separators[0]
    for part, separator in zip(split.sentences, split.separators[1:], strict=True):
        assert not separator.strip()
        joined += part + separator
    assert joined == sentence


@pytest.mark.parametrize("unit", ["a", "a.", "1,", "<a", "{a", "@a", "a@"])
def test_a_million_characters_come_back(unit):
    """A pattern that looks at a long word again from each of its characters would take an hour over it."""
    text = unit * (1_000_000 // len(unit))
    assert len(masked(text)) == len(text)


PARTS = [
    "a",
    "Is it",
    ". ",
    "! ",
    "。",
    "\n",
    "- ",
    "1) ",
    "12",
    "3.5",
    "`",
    "```\n",
    "www.a.b",
    "http://a.b/c",
    "ftp:",
    "@",
]
PARTS += ["x@y.zz", "{", "}", "{{name}}", "{Is it? No.}", "%s", "%", "<", "<b>", "</b>", ">", " ", "ñ", "é@ö", "😀"]


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_short_ways_find_what_the_long_ways_find(text):
    every = [(str(match.lastgroup), match.start()) for match in protection._SPAN.finditer(text)]
    short = [(span.kind, span.start) for span in protected_spans(text)]
    assert [found for found in every if found[0] != "placeholder"] == [
        found for found in short if found[0] != "placeholder"
    ]
    assert has_words(text) == any(not kept and protection._LETTER.search(part) for kept, part in around_spans(text))
    split = split_text(text, "eng_Latn")
    assert has_sentences(text) == bool(split.sentences)
    assert list(split_texts([text, text], "eng_Latn")) == [split, split]
