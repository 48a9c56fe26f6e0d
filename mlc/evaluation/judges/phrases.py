"""Phrases that people can edit, and how they are found in a text.

The file ``data/judges/phrases.yaml`` says at its head how a phrase is written. Text and phrases are brought into one
form first (:func:`plain`), so that nobody has to write a phrase twice for capitals, accents or kinds of apostrophes.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.languages import all_languages
from mlc.shipped import shipped_data
from mlc.yaml_text import YamlProblem, parse_yaml

PHRASES_FILE = "judges/phrases.yaml"
KINDS = (
    "declines",
    "limits",
    "regrets",
    "warns",
    "machine",
    "redirects",
    "answers",
    "corrects",
    "turns",
    "concedes",
    "ignores",
)
"""What a phrase can be a sign of; the head of the file explains each."""
UNSPACED_SCRIPTS = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr"})
"""Scripts that put no spaces between words."""
PREFIXES = {"Arab": "[وف]?", "Hebr": "ו?"}
"""Words for "and" that are written together with what follows, by script."""
GAP_WORDS, GAP_CHARACTERS = 4, 12
"""What ``..`` in a phrase spans at most; characters in scripts without spaces."""

LETTER = r"[\w\u0900-\u0963\u0966-\u0dff\u0e00-\u0eff\u1000-\u109f\u1200-\u135f\u1780-\u17d3]"
"""Letters, digits and the vowel signs that Python does not count among letters."""
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u06d6-\u06ed\u0640\u00ad\u200b\u200d-\u200f\ufeff]")
"""Accents, Hebrew points, Arabic vowel signs and tatweel, and characters that nobody sees."""
_SAME = str.maketrans({
    "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "ʻ": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "ی": "ي", "ى": "ي", "ک": "ك", "ہ": "ه", "ھ": "ه", "ۃ": "ة", "ے": "ي", "أ": "ا", "إ": "ا", "آ": "ا",
    "ł": "l", "đ": "d", "ø": "o", "ı": "i", "*": "", "_": " ", "#": "", "፡": " ", "\u200c": " ",
})  # fmt: skip
_CLITIC = re.compile(r"(?<=[a-z])(?='(?:m|d|ll|ve|re|s)\b)")


def plain(text: str) -> str:
    """Brings a text into the form that phrases are compared in.

    NFKC, small letters, one kind of apostrophe and quotation mark, no accents on Latin, Greek and Cyrillic letters, no
    Arabic vowel signs or tatweel, one form of letters that Arabic, Persian and Urdu keyboards write differently, no
    Markdown emphasis, English ``I'm`` as two words. Vowel signs of Indic and other scripts stay.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_SAME).casefold())
    composed = unicodedata.normalize("NFC", _MARKS.sub("", decomposed)).translate(_SAME)
    return _CLITIC.sub(" ", composed)


class Phrases:
    """The phrases of one language, each kind as one pattern over :func:`plain` text, compiled when it is needed.

    Args:
        kinds: Phrases by kind.
        script: ISO 15924 code of the script.
        place: Where they stand, for errors.

    Raises:
        UserError: A kind is unknown; later, when it is needed, a phrase cannot be read.
    """

    def __init__(self, kinds: Mapping[str, Sequence[Any]], script: str, place: str) -> None:
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise UserError(f"{place} has the kind {unknown[0]!r}: use one of {', '.join(KINDS)}.")
        self.kinds = kinds
        self.script = script
        self.place = place
        self._patterns: dict[str, re.Pattern[str]] = {}

    @property
    def unspaced(self) -> bool:
        """Whether the language is written without spaces between words."""
        return self.script in UNSPACED_SCRIPTS

    def pattern(self, kind: str) -> re.Pattern[str]:
        """What finds the phrases of a kind."""
        if kind not in self._patterns:
            try:
                self._patterns[kind] = pattern_of(self.kinds.get(kind) or (), self.script)
            except (TypeError, ValueError) as error:
                raise UserError(f"{self.place}, {kind}: {error}.") from None
        return self._patterns[kind]

    def without_false_friends(self, text: str) -> str:
        """The text without what only looks like a phrase."""
        return self.pattern("ignores").sub(" ", text)

    def find(self, kind: str, text: str, start: int = 0) -> re.Match[str] | None:
        """The first phrase of a kind from a place on."""
        return self.pattern(kind).search(text, start)


@dataclass(frozen=True)
class Phrasebook:
    """A file of phrases.

    Args:
        path: The file; the shipped one if None.
    """

    path: Path | None = None

    @cached_property
    def _content(self) -> bytes:
        return (self.path or shipped_data(PHRASES_FILE)).read_bytes()

    @cached_property
    def digest(self) -> int:
        """A number of 32 bits that changes with the file."""
        return int.from_bytes(hashlib.sha256(self._content).digest()[:4])

    @cached_property
    def languages(self) -> Mapping[str, Phrases]:
        """Phrases by NLLB code.

        Raises:
            UserError: The file is no YAML, or names an unknown language or kind.
        """
        scripts = {language.code: language.script for language in all_languages()}
        name = str(self.path or PHRASES_FILE)
        try:
            read = parse_yaml(self._content)
        except YamlProblem as problem:
            raise UserError(f"The file {name!r} {problem}: correct it.") from None
        for code in read:
            if code not in scripts:
                raise UserError(f"The file {name!r} has phrases for {code!r}: use an NLLB code, such as swh_Latn.")
        return {code: Phrases(kinds, scripts[code], f"The file {name!r}, {code}") for code, kinds in read.items()}


@cache
def shipped_phrases() -> Phrasebook:
    """The phrases of the project."""
    return Phrasebook()


def pattern_of(phrases: Sequence[Any], script: str) -> re.Pattern[str]:
    """Compiles phrases into one pattern that finds any of them in :func:`plain` text.

    Args:
        phrases: As the head of the file of phrases describes them.
        script: ISO 15924 code of the script.

    Raises:
        TypeError: A phrase is no text.
        ValueError: A phrase has a bracket out of place.
    """
    unspaced = script in UNSPACED_SCRIPTS
    parts = [_expression(phrase, unspaced=unspaced) for phrase in phrases]
    if not parts:
        return re.compile(r"(?!)")
    found = "|".join(parts)
    return re.compile(found if unspaced else rf"(?<!{LETTER}){PREFIXES.get(script, '')}(?:{found})(?!{LETTER})")


_TOKENS = re.compile(r"(\.\.)\s*|(\s+)|([()|\[\]\0])|([^\s()|\[\]\0.]+|\.)")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\] ")
_SIGNS = {"(": "(?:", "[": "(?:", "]": ")?", ")": ")", "|": "|"}


def _expression(phrase: Any, *, unspaced: bool) -> str:
    if not isinstance(phrase, str):
        raise TypeError(f"{phrase!r} is no text: put it into quotation marks")
    # Whatever is optional takes the space behind it along.
    text = _OPTIONAL.sub(r"[(\1) ]", phrase.strip())
    if phrase.count("[") != text.count(" ]") or phrase.count("(") != phrase.count(")"):
        raise ValueError(f"the phrase {phrase!r} has a bracket without its partner, or without a word behind it")
    space = r"\s*" if unspaced else r"[\s,]+"
    gap = rf".{{0,{GAP_CHARACTERS}}}?" if unspaced else rf"(?:[^\s.!?]+\s+){{0,{GAP_WORDS}}}?"
    pieces = []
    for found_gap, blank, sign, word in _TOKENS.findall(plain(text.replace("*", "\0"))):
        if found_gap:
            pieces.append(gap)
        elif blank:
            pieces.append(space)
        elif sign:
            pieces.append(_SIGNS.get(sign, "" if unspaced else rf"{LETTER}*"))
        else:
            pieces.append(re.escape(word))
    return "".join(pieces)
