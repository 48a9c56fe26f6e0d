"""Numbers as languages write them: in words, and with words for powers of ten (120 million, 1億2000万, 2 लाख)."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from math import prod
from pathlib import Path

import regex

NUMERALS = Path(__file__).resolve().parent / "numerals.csv"
"""Words for numbers and for powers of ten by language, from the Unicode Common Locale Data Repository; made with
``python -m mlc.making.numerals``."""

UNSPACED_SCRIPTS = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr"})
"""Scripts that put no space between words."""

_NUMBER = r"[0-9]+(?:[.,'’٬\xa0\u202f\u2009 ][0-9]{3})*(?:[.,٫][0-9]+)?"
_DECIMALS = regex.compile(r"[.,٫]([0-9]{1,2}|[0-9]{4,})$")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:[-'’][\p{L}\p{M}]+)*")


@dataclass(frozen=True)
class Numerals:
    """How one language writes numbers."""

    numbers: Mapping[str, int]
    """Value of each word, in small letters."""
    scales: Mapping[str, int]
    """Value of each word for a power of ten."""
    before: bool = False
    """Whether the word for the power stands before its number, as in Swahili."""
    spaced: bool = True
    """Whether words are told by spaces."""

    def written(self, text: str) -> list[int]:
        """Numbers that a text writes in words."""
        folded = text.casefold()
        if self.spaced:
            return [self.numbers[word] for word in _WORD.findall(folded) if word in self.numbers]
        found = []
        for word in sorted(self.numbers, key=len, reverse=True):
            found += [self.numbers[word]] * folded.count(word)
            # A shorter word inside a longer one is none.
            folded = folded.replace(word, " ")
        return found

    def in_digits(self, text: str) -> str:
        """The text with each number that has words for powers of ten in digits: 1億2000万 as 120000000."""
        return str(self._run.sub(self._sum, text)) if self.scales else text

    @cached_property
    def _scale(self) -> str:
        return "|".join(map(regex.escape, sorted(self.scales, key=len, reverse=True)))

    @cached_property
    def _scales(self) -> str:
        """One word, or two that are multiplied (2천만, lakh crore)."""
        end = r"(?!\p{L})" if self.spaced and not self.before else ""
        return rf"(?:{self._scale})(?:\s?(?:{self._scale}))?{end}"

    @cached_property
    def _run(self) -> regex.Pattern[str]:
        """Numbers with their words on end; behind the last word a number may follow without one (1万5000)."""
        if self.before:
            one = rf"(?:{self._scales})\s?{_NUMBER}"
            return regex.compile(rf"{one}(?:[\s,]+(?:\p{{L}}+\s)?{one})*", regex.IGNORECASE)
        one = rf"{_NUMBER}\s?(?:{self._scales})"
        return regex.compile(rf"{one}(?:\s?{one})*(?:{_NUMBER})?", regex.IGNORECASE)

    @cached_property
    def _part(self) -> regex.Pattern[str]:
        number, scale = rf"(?P<number>{_NUMBER})", rf"(?P<scale>{self._scales})"
        form = rf"{scale}\s?{number}" if self.before else rf"{number}\s?{scale}?"
        return regex.compile(form, regex.IGNORECASE)

    def _sum(self, match: regex.Match[str]) -> str:
        parts = [(_value(part["number"]), self._power(part["scale"])) for part in self._part.finditer(match[0])]
        # In a sum each part is less than the power before it; what is not is a list of numbers.
        total = sum(value * power for value, power in parts)
        if total.denominator > 1 or any(value * power >= above for (_, above), (value, power) in pairwise(parts)):
            return str(match[0])
        return str(total.numerator)

    def _power(self, scale: str | None) -> int:
        return prod(self.scales[word.casefold()] for word in regex.findall(self._scale, scale or "", regex.IGNORECASE))


@cache
def numerals_of(code: str) -> Numerals:
    """How a language writes numbers; without words for a language that the table lacks.

    Args:
        code: NLLB code.
    """
    rows = _table().get(code, ())
    return Numerals(
        {word: value for kind, word, value in rows if kind == "number"},
        {word: value for kind, word, value in rows if kind != "number"},
        before=any(kind == "scale before" for kind, _, _ in rows),
        spaced=code.rpartition("_")[2] not in UNSPACED_SCRIPTS,
    )


@cache
def _table() -> Mapping[str, list[tuple[str, str, int]]]:
    found: dict[str, list[tuple[str, str, int]]] = {}
    with NUMERALS.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            found.setdefault(row["language"], []).append((row["kind"], row["word"], int(row["value"])))
    return found


def _value(number: str) -> Fraction:
    """The value of digits with separators: a last group of three is thousands, any other one decimals."""
    decimals = _DECIMALS.search(number)
    digits = int("".join(filter(str.isdigit, number)))
    return Fraction(digits, 10 ** len(decimals[1]) if decimals else 1)
