"""Makes ``mlc/text/numerals.csv`` from CLDR: ``python -m mlc.making.numerals``.

Needs the packages ``babel`` (compact decimal formats: lakh, crore, 万, 億) and ``unicode-rbnf`` (numbers spelled out),
which carry the data of the Unicode Common Locale Data Repository and are needed for nothing else.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.text.numerals import NUMERALS

SPELLED = (*range(2, 32), *range(40, 100, 10))
"""Numbers whose words are kept: small ones, days of a month, tens. Not one, which is an article in many languages."""

Row = tuple[str, str, str, int]


def rows() -> Iterator[Row]:
    """Language (NLLB code), kind (``number``, ``scale`` or ``scale before``), word, value; sorted, each once."""
    found = sorted({*_numbers(), *_scales()})
    values = Counter(row[:3] for row in found)
    # A word that stands for two values tells neither.
    yield from (row for row in found if values[row[:3]] == 1)


def _numbers() -> Iterator[Row]:
    from unicode_rbnf import RbnfEngine

    for tag in RbnfEngine.get_supported_languages():
        code = _code(tag)
        if code is None:
            continue
        engine = RbnfEngine.for_language(tag)
        for number in SPELLED:
            for word in set(engine.format_number(number).text_by_ruleset.values()):
                spelled = _plain(word)
                if not re.search(r"\d", spelled):
                    yield code, "number", spelled, number


def _scales() -> Iterator[Row]:
    from babel import Locale, localedata

    for tag in localedata.locale_identifiers():
        code = _code(tag)
        if code is None:
            continue
        formats = Locale.parse(tag)._data["compact_decimal_formats"]
        for by_plural in (formats.get("long") or formats.get("short") or {}).values():
            for power, form in by_plural.items():
                pattern = str(getattr(form, "pattern", form)).split(";")[0].replace("'", "")
                match = re.fullmatch(r"(0+)\s*(\D+)|(\D+?)\s*(0+)", pattern)
                if match is None:
                    continue
                word, zeros = (match[2], match[1]) if match[1] else (match[3], match[4])
                word, value = _plain(word), int(power) // 10 ** (len(zeros) - 1)
                # Where CLDR has no long form, the short one is a word only in scripts without short forms.
                if not re.search(r"[\s.0¤]|^[a-z]{1,2}$", word) and len(str(value)) > 3:
                    yield code, "scale" if match[1] else "scale before", word, value


def _plain(word: str) -> str:
    """Without soft hyphens and capitals, in the form in which the filter reads texts."""
    return unicodedata.normalize("NFC", word.replace("\u00ad", "").strip().casefold())


def _code(tag: str) -> str | None:
    """NLLB code of a plain language of CLDR; regions count only where they name a script."""
    if tag == "zh":
        return "zho_Hans"
    try:
        return resolve_language(tag).code if re.fullmatch(r"[a-z]{2,3}(_[A-Z][a-z]{3})?", tag) else None
    except UserError:
        return None


def main() -> None:
    """Writes the table."""
    with NUMERALS.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("language", "kind", "word", "value"))
        writer.writerows(rows())


if __name__ == "__main__":
    main()
