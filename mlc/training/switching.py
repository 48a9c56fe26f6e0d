"""Code-switched prompts: a translation in which parts stay in the language of the source."""

import random
import re
from itertools import pairwise

_SENTENCE = re.compile(r"[^.!?。！？।؟]+[.!?。！？।؟]*\s*")
_WORDS_A_PART = 3


def switched(english: str, translation: str, chance: random.Random) -> str:
    """A prompt whose parts are in both languages in turn.

    Where both have as many sentences, whole sentences are taken from one or the other; otherwise both are cut into
    parts of about three words, so that a part may be there twice or not at all.

    Args:
        english: The prompt.
        translation: The same in another language.
        chance: Decides which language begins.

    Returns:
        The text; the translation as it is where it is too short to be cut.
    """
    parts = [_SENTENCE.findall(text) for text in (english, translation)]
    if len(parts[0]) != len(parts[1]) or len(parts[0]) < 2:
        count = min(len(text.split()) // _WORDS_A_PART for text in (english, translation))
        if count < 2:
            return translation
        parts = [_cut(text.split(), count) for text in (english, translation)]
    first = chance.randrange(2)
    return "".join(parts[(place + first) % 2][place] for place in range(len(parts[0]))).strip()


def _cut(words: list[str], count: int) -> list[str]:
    """As many parts of about the same number of words."""
    places = [round(number * len(words) / count) for number in range(count + 1)]
    return [" ".join(words[start:end]) + " " for start, end in pairwise(places)]
