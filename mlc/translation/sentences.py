"""Splits a text into sentences and joins their translations.

NLLB was trained on single sentences and drops some when it is given several, so it must never see more than one.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mlc.languages import rules_of_sentences
from mlc.translation.protection import CODE_BLOCK, LIST_MARKER, has_words, masked, outer_tags

WINDOW = 10_000
"""Texts that are taken together, so that what is in memory at once does not grow with their number."""
UNSPACED_SCRIPTS = frozenset({"Hans", "Hant", "Jpan"})
"""Scripts that write no space between sentences."""

ORDINARY_WORDS = {
    "de": ("mich",),
    "en": ("id", "ill", "may", "me", "miss", "no", "ok"),
    "es": ("ante", "bien", "contra", "no", "sobre"),
    "fr": ("ex", "vol"),
}
"""By ISO 639-1 code, words that sentencex 1.0.32 takes for abbreviations even in lower case and so never splits after,
as in "This is new to me. Write it down."."""

TITLES = {
    "en": ("Eq", "Figs", "Govs", "Ms", "Mx", "Vol"),
    "fr": ("M", "MM"),
}
"""By ISO 639-1 code, abbreviations that always stand before a name or number and that sentencex 1.0.32 splits after."""

_WIDE_SPACE = re.compile(r"[^\S \t\r\n]")
_CLAUSE_END = re.compile(r"[;:,،؛—–](?=\s)|[、，；：]")
_WORD_END = re.compile(r"\S(?=\s)")


@dataclass(frozen=True)
class SplitText:
    """A text as its sentences and what stood between them."""

    sentences: tuple[str, ...]
    """The sentences, without white space at their ends; none is blank."""
    separators: tuple[str, ...]
    """White space, and whatever else is not translated, before, between and after the sentences: one more than there
    are sentences."""

    def rejoin(self, translations: Mapping[str, str] | Sequence[str], *, target: str) -> str:
        """Puts translated sentences where the originals stood.

        Args:
            translations: The translation of each sentence: by sentence, or in order.
            target: NLLB code of the language of the translations. A space is put between sentences that had none,
                as in Chinese, unless the script of the target writes none either.
        """
        parts = [self.separators[0]]
        for index, sentence in enumerate(self.sentences):
            parts.append(translations[sentence] if isinstance(translations, Mapping) else translations[index])
            last = index == len(self.sentences) - 1
            parts.append(self.separators[index + 1] or ("" if last else _default_separator(target)))
        return "".join(parts)

    def without_wordless(self) -> "SplitText":
        """The same text with what has no words among the separators, because there is nothing to translate."""
        sentences: list[str] = []
        separators = [self.separators[0]]
        for sentence, separator in zip(self.sentences, self.separators[1:], strict=True):
            if has_words(sentence):
                sentences.append(sentence)
                separators.append(separator)
            else:
                separators[-1] += sentence + separator
        return SplitText(tuple(sentences), tuple(separators))


def split_sentences(text: str, language: str) -> SplitText:
    """Splits a text into sentences; the sentences and separators together are exactly the text.

    Args:
        text: Any text; a blank one has no sentences.
        language: NLLB code of the language of the text.
    """
    sentences: list[str] = []
    separators = [""]
    for segment in _segments(text, rules_of_sentences(language)):
        core = segment.strip()
        if not core:
            separators[-1] += segment
            continue
        start = segment.index(core)
        separators[-1] += segment[:start]
        sentences.append(core)
        separators.append(segment[start + len(core) :])
    return SplitText(tuple(sentences), tuple(separators))


def split_text(text: str, language: str) -> SplitText:
    """Splits a text into the sentences to translate and all else, such as code blocks, list markers and outer tags.

    The sentences and separators together are exactly the text. No sentence ends inside an address, a placeholder, a
    tag or inline code.

    Args:
        text: Any text.
        language: NLLB code of the language of the text.
    """
    parts = _Parts()
    end = 0
    for block in CODE_BLOCK.finditer(text):
        _split_lines(text[end : block.start()], language, parts)
        parts.keep(block.group())
        end = block.end()
    _split_lines(text[end:], language, parts)
    return SplitText(tuple(parts.sentences), tuple(parts.separators))


def split_texts(texts: Sequence[str], language: str) -> Iterator[SplitText]:
    """Splits texts as :func:`split_text` does; the same texts, once for each language that they are translated into.

    Args:
        texts: Any texts.
        language: NLLB code of their language.
    """
    for start in range(0, len(texts), WINDOW):
        yield from _split_window(tuple(texts[start : start + WINDOW]), language)


@lru_cache(maxsize=4)
def _split_window(texts: tuple[str, ...], language: str) -> tuple[SplitText, ...]:
    return tuple(split_text(text, language) for text in texts)


def has_sentences(text: str) -> bool:
    """Whether :func:`split_text` finds a sentence in a text, without looking for where it ends.

    Sentences do not end inside protected parts, so that a line has one with words if it has words itself.

    Args:
        text: Any text.
    """
    lines = (line for part in CODE_BLOCK.split(text) for line in part.splitlines(keepends=True))
    return any(has_words(_without_marker(line)) for line in lines)


def split_clauses(sentence: str, fits: Callable[[str], bool]) -> SplitText:
    """Splits a sentence that is too long, at ends of clauses where there are some, else between words.

    Args:
        sentence: The sentence.
        fits: Tells whether a part is short enough.

    Returns:
        The parts as sentences. A part that cannot be split stays too long.
    """
    middle = None if fits(sentence) else _middle_bound(masked(sentence))
    if middle is None:
        return SplitText((sentence,), ("", ""))
    left, right = (split_clauses(half.strip(), fits) for half in (sentence[:middle], sentence[middle:]))
    space = sentence[middle : len(sentence) - len(sentence[middle:].lstrip())]
    return SplitText((*left.sentences, *right.sentences), (*left.separators[:-1], space, *right.separators[1:]))


def _middle_bound(sentence: str) -> int | None:
    """The bound of clauses, or of words, that is nearest to the middle."""
    for pattern in (_CLAUSE_END, _WORD_END):
        bounds = [match.end() for match in pattern.finditer(sentence) if sentence[match.end() :].strip()]
        if bounds:
            return min(bounds, key=lambda bound: abs(bound - len(sentence) / 2))
    return None


class _Parts:
    """Sentences and separators in the making."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.separators = [""]

    def keep(self, text: str) -> None:
        self.separators[-1] += text

    def translate(self, sentence: str) -> None:
        before, core, after = outer_tags(sentence)
        if not has_words(core):
            self.keep(sentence)
            return
        self.keep(before)
        self.sentences.append(core)
        self.separators.append(after)


def _without_marker(line: str) -> str:
    marker = LIST_MARKER.match(line)
    return line[marker.end() :] if marker else line


def _split_lines(text: str, language: str, parts: _Parts) -> None:
    for line in text.splitlines(keepends=True):
        marker = LIST_MARKER.match(line)
        body = line[marker.end() :] if marker else line
        parts.keep(marker.group() if marker else "")
        split = split_sentences(masked(body), language)
        parts.keep(split.separators[0])
        end = len(split.separators[0])
        for sentence, separator in zip(split.sentences, split.separators[1:], strict=True):
            parts.translate(body[end : end + len(sentence)])
            parts.keep(separator)
            end += len(sentence) + len(separator)


def _segments(text: str, language: str) -> Iterator[str]:
    # Importing here keeps the command line quick to start.
    from sentencex import segment

    # sentencex keeps the lines of a list or a poem together, and NLLB would run them into one.
    for line in text.splitlines(keepends=True):
        # sentencex 1.0.32 panics at a wide space before a full stop, so it sees plain spaces in their place.
        start = end = 0
        for segmented in segment(language, _WIDE_SPACE.sub(" ", line)):
            end += len(segmented)
            if not _ends_with_title(line[start:end], language):
                yield from _split_after_ordinary_words(line[start:end], language)
                start = end
        if line[start:]:
            yield line[start:]


def _ends_with_title(sentence: str, language: str) -> bool:
    titles = "|".join(TITLES.get(language, ()))
    return bool(titles) and re.search(rf"(?<!\w)(?:{titles})\.\s*$", sentence) is not None


def _split_after_ordinary_words(sentence: str, language: str) -> list[str]:
    words = "|".join(ORDINARY_WORDS.get(language, ()))
    if not words:
        return [sentence]
    starts = [match.end() for match in re.finditer(rf"(?<!\w)(?:{words})\.\s+(?=[¿¡]?\w)", sentence)]
    starts = [start for start in starts if sentence[start:].lstrip("¿¡")[0].isupper()]
    bounds = [0, *starts, len(sentence)]
    return [sentence[start:end] for start, end in itertools.pairwise(bounds)]


def _default_separator(target: str) -> str:
    return "" if target.rpartition("_")[2] in UNSPACED_SCRIPTS else " "
