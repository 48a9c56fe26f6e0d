"""Code-switched prompts: a translation in which parts stay in the language of the source."""

import random
from collections.abc import Sequence
from itertools import pairwise

import regex

_ENDS = ".!?。！？।؟۔።။។"
_SENTENCE = regex.compile(rf"(?:^[{_ENDS}\s]+)?[^{_ENDS}]+[{_ENDS}]*\s*")
_WORDS_A_PART = 3
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_UNIT = regex.compile(rf"(?={_UNSPACED})\X|(?:(?!{_UNSPACED})\S)+")
"""A word, or a character with its marks where a script puts no space between words."""


def switched(english: str, translation: str, chance: random.Random) -> str:
    """A prompt whose parts are in both languages in turn.

    Where both have as many sentences, whole sentences are taken from one or the other; otherwise both are cut into
    parts of about three words, so that a part may be there twice or not at all. In scripts that put no space between
    words, characters stand for them.

    Args:
        english: The prompt.
        translation: The same in another language.
        chance: Decides which language begins.

    Returns:
        The text; the translation as it is where it is too short to be cut.
    """
    parts = [_SENTENCE.findall(text) for text in (english, translation)]
    if len(parts[0]) != len(parts[1]) or len(parts[0]) < 2:
        units = [list(_UNIT.finditer(text)) for text in (english, translation)]
        count = min(map(len, units)) // _WORDS_A_PART
        if count < 2:
            return translation
        parts = [_cut(own, count) for own in units]
    first = chance.randrange(2)
    return "".join(parts[(place + first) % 2][place] for place in range(len(parts[0]))).strip()


def _cut(units: Sequence[regex.Match[str]], count: int) -> list[str]:
    """As many parts of about the same number of units, with one space where there were some."""
    places = [round(number * len(units) / count) for number in range(count + 1)]
    parts = [units[start:end] for start, end in pairwise(places)]
    return [" ".join(part[0].string[part[0].start() : part[-1].end()].split()) + " " for part in parts]
