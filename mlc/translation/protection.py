"""What must come through a translation unharmed: code, addresses, placeholders, tags, numbers."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

CODE_BLOCK = re.compile(r"```.*?```|~~~.*?~~~", re.DOTALL)
"""Fenced code; it is never translated."""
LIST_MARKER = re.compile(r"[ \t]*(?:(?:[-*+•‣◦]|\d{1,3}[.)]|[A-Za-z]\)|#{1,6}|>)[ \t]+)+")
"""What begins a line of a list, a heading or a quotation; it is never translated."""

_SPAN = re.compile(
    r"""
      (?P<code>`[^`\n]+`)
    | (?P<url>(?:https?|ftp)://[^\s<>"']+|www\.[^\s<>"']+)
    | (?P<email>(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+)
    | (?P<placeholder>\{\{[^{}\n]*\}\}|\$?\{[^{}\s][^{}\n]*\}|%\(\w+\)[sd]|%[sd]\b)
    | (?P<tag></?[A-Za-z][^<>\n]*>)
    | (?P<number>\d+(?:[.,:/]\d+)*)
    """,
    re.VERBOSE,
)
_MARKS = re.compile(r"[`@{%<]|://|www\.")
"""One of these is in every protected part but a number."""
_NUMBER = re.compile(r"(?P<number>\d+(?:[.,:/]\d+)*)")
_EXPRESSION = re.compile(r"[|=<>_$]|^\s*[\"'][^\"']*[\"']\s*:")
"""What no sentence has, but filters, assignments and keys of data do."""
_SENTENCE_END = re.compile(r"[^\s\d][.!?…‥।॥؟۔።፧។៕᱾᱿։]+[\"'»”’)]*(?:\s|$)|[。！？．｡]")
_MOST_WORDS_OF_A_NAME = 3
_LETTER = regex.compile(r"[^\P{L}\p{Common}\p{Inherited}\u115F\u1160\u3164\uFFA0]")
"""A letter of a script, as the filter knows them; the four that are left out are of Hangul and cannot be seen."""
_AFTER_ADDRESS = ".,;:!?)]}'\"»”。，！？"


@dataclass(frozen=True)
class Span:
    """A part of a text that must stay as it is."""

    kind: str
    """``code``, ``url``, ``email``, ``placeholder``, ``tag`` or ``number``."""
    text: str
    start: int
    end: int


def protected_spans(text: str) -> list[Span]:
    """Finds the protected parts of a text, in order, without overlap."""
    return list(_spans(text))


def _spans(text: str) -> Iterator[Span]:
    # Most texts have numbers at the most, and looking for all else at every letter takes thirty times as long.
    for match in (_SPAN if _MARKS.search(text) else _NUMBER).finditer(text):
        kind = str(match.lastgroup)
        found = match.group()
        if kind == "placeholder" and _is_sentence(found):
            continue
        if kind == "url":
            found = found.rstrip(_AFTER_ADDRESS)
        yield Span(kind, found, match.start(), match.start() + len(found))


def masked(text: str) -> str:
    """The text with a letter in place of every character of a protected part, numbers excepted.

    Whoever looks for the end of a sentence or clause finds none inside.
    """
    pieces, end = [], 0
    for span in _spans(text):
        if span.kind != "number":
            pieces += [text[end : span.start], "x" * len(span.text)]
            end = span.end
    return "".join([*pieces, text[end:]])


def has_words(text: str) -> bool:
    """Whether there is a letter of any script outside the protected parts.

    Numbers, punctuation, symbols, emoji and what cannot be seen are no words: there is nothing to translate.
    """
    if not _LETTER.search(text):
        return False
    if not _MARKS.search(text):
        # Numbers are not cut out.
        return True
    return any(not kept and _LETTER.search(rest) for kept, rest in around_spans(text))


def _is_sentence(placeholder: str) -> bool:
    """Whether braces hold text that is to be translated, and no name or expression.

    A name is one word or a few; an expression has an operator or a key. A sentence has several words and ends as
    sentences do, or has more words than names have.
    """
    content = placeholder.strip("${}").strip()
    if _EXPRESSION.search(content):
        return False
    words = sum(bool(_LETTER.search(word)) for word in content.split())
    ends = _SENTENCE_END.search(content)
    if ends is not None and ends.group()[0] in "。！？．｡":
        return True
    return words > _MOST_WORDS_OF_A_NAME or (words > 1 and ends is not None)


def outer_tags(sentence: str) -> tuple[str, str, str]:
    """Cuts tags and the white space beside them off both ends; what begins or ends inside stays."""
    start, end = 0, len(sentence)
    spans = [span for span in _spans(sentence) if span.kind == "tag"]
    for span in spans:
        if not sentence[start : span.start].strip():
            start = span.end
    for span in reversed(spans):
        if span.start >= start and not sentence[span.end : end].strip():
            end = span.start
    core = sentence[start:end].strip()
    if not core:
        return "", sentence, ""
    start = sentence.index(core, start)
    return sentence[:start], core, sentence[start + len(core) :]


def lost_kinds(source: str, translation: str) -> tuple[str, ...]:
    """Kinds of protected parts of which the translation lacks some.

    Numbers may be written in other digits, and with other separators.

    Args:
        source: The sentence.
        translation: Its translation.

    Returns:
        Kinds, sorted; empty where everything came through.
    """
    spans = protected_spans(source)
    if not spans:
        return ()
    exact = Counter((span.kind, span.text) for span in spans if span.kind != "number")
    lost = {kind for (kind, text), count in exact.items() if translation.count(text) < count}
    if (wanted := _numbers(spans)) and wanted - _numbers(_spans(translation)):
        lost.add("number")
    return tuple(sorted(lost))


def _numbers(spans: Iterable[Span]) -> Counter[str]:
    return Counter(_digits(span.text) for span in spans if span.kind == "number")


def around_spans(sentence: str) -> list[tuple[bool, str]]:
    """Cuts a sentence into its protected parts (True) and what stands around them (False); numbers are not cut out."""
    pieces, end = [], 0
    for span in _spans(sentence):
        if span.kind != "number":
            pieces += [(False, sentence[end : span.start]), (True, span.text)]
            end = span.end
    return [(kept, text) for kept, text in [*pieces, (False, sentence[end:])] if text]


def _digits(number: str) -> str:
    if number.isdigit() and number.isascii():
        return number
    return "".join(str(unicodedata.digit(character)) for character in number if character.isdigit())
