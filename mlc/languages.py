"""The one table of languages: NLLB code, names, script, tags.

Inside the project a language is its NLLB (FLORES-200) code, such as ``swh_Latn``. People may write a code,
a BCP-47 or ISO 639 tag, or a name; :func:`resolve_language` turns it into the one row that it means.
"""

import csv
import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from mlc.errors import UserError
from mlc.shipped import shipped_data

ENGLISH = "eng_Latn"
_Value = TypeVar("_Value")
_TAG = re.compile(r"[a-z]{2,3}(?:[_-][A-Z][a-z]{3}(?:[_-](?:[A-Z]{2}|[0-9]{3}))?|[_-](?:[A-Z]{2}|[0-9]{3}))")


@dataclass(frozen=True)
class Language:
    """One row of the language table."""

    code: str
    """NLLB code: ISO 639-3 and ISO 15924, such as ``swh_Latn``."""
    english_name: str
    own_name: str
    script: str
    """ISO 15924 code of the script, such as ``Latn``."""
    direction: str
    """``ltr`` or ``rtl``."""
    bcp47: str
    iso639_1: str
    """Two-letter code; empty where there is none."""
    aliases: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Everything that people may write for this language, in lower case."""
        spellings = (self.code, self.code.split("_")[0], self.english_name, self.own_name, self.bcp47, self.iso639_1)
        return tuple({spelling.casefold(): None for spelling in (*spellings, *self.aliases) if spelling})


@cache
def all_languages() -> tuple[Language, ...]:
    """Every language of the table, in the order of the codes."""
    with shipped_data("languages.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    languages = [
        Language(aliases=tuple(alias for alias in row.pop("aliases").split(";") if alias), **row) for row in rows
    ]
    return tuple(sorted(languages, key=lambda language: language.code))


@cache
def _by_name() -> dict[str, tuple[Language, ...]]:
    found: dict[str, list[Language]] = {}
    for language in all_languages():
        for name in language.names():
            found.setdefault(name, []).append(language)
    return {name: tuple(languages) for name, languages in found.items()}


def resolve_language(text: str) -> Language:
    """Finds the language that a person means.

    Args:
        text: NLLB code, BCP-47 or ISO 639 tag, or a name in English or in the language itself; case is ignored. Of a
            tag such as ``es-419`` or ``zh-Hans-CN`` the language and the script count; a script that is not written is
            the usual one of the region.

    Raises:
        UserError: Nothing in the table is called so, or several languages are.
    """
    wanted = unicodedata.normalize("NFC", text).strip().casefold().replace("-", "_")
    table = _by_name()
    found = table.get(wanted) or table.get(wanted.replace("_", "-")) or _by_tag(wanted.replace("_", "-"))
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{language.code} ({language.english_name})" for language in found)
        raise UserError(f"The language {text!r} is ambiguous: write {choices}.")
    near = difflib.get_close_matches(wanted, table, n=8, cutoff=0.5)
    nearest = list(dict.fromkeys(table[name][0] for name in near))[:3]
    named = [f"{language.code} ({language.english_name})" for language in nearest]
    hint = f"did you mean {', '.join(named)}?" if named else "choose one of the list."
    raise UserError(f"The language {text!r} is unknown: {hint}", about=None if named else "language list")


def _by_tag(text: str) -> tuple[Language, ...]:
    """Languages of the table that a BCP-47 tag with more than the table writes stands for."""
    import langcodes

    try:
        tag = langcodes.Language.get(text)
        macro = langcodes.Language.get(langcodes.standardize_tag(text, macro=True)).language
        usual = langcodes.Language.make(language=tag.language).maximize()
    except ValueError:
        return ()
    table = _by_name()
    found = table.get(tag.language or "") or table.get(macro or "", ())
    likely = tag.maximize().script
    written = tuple(row for row in found if row.script == likely)
    # A region where two scripts are at home, such as Iraq's Kurdish, decides nothing.
    decides = tag.script or tag.territory in (None, usual.territory) or likely != usual.script
    return written if decides or len(found) < 2 else found


def rules_of_sentences(language: str) -> str:
    """The language whose rules split sentences, as sentencex names it.

    Args:
        language: NLLB code.
    """
    try:
        row = resolve_language(language)
    except UserError:
        return language.split("_")[0]
    return row.iso639_1 or row.bcp47.split("-")[0]


def looks_like_a_tag(text: str) -> bool:
    """Whether a text can only be meant as a code or tag with a script or a region, so that a mistyped one is an error.

    A word of two or three letters alone may be anything.
    """
    return _TAG.fullmatch(text) is not None


def by_code(given: Mapping[str, _Value], key: str) -> dict[str, _Value]:
    """A setting by language, with NLLB codes in place of names.

    Args:
        given: By names, tags or codes.
        key: Of the setting, as people write it.

    Raises:
        UserError: A name is unknown or ambiguous, or a language is named twice.
    """
    found: dict[str, _Value] = {}
    for name, value in given.items():
        code = resolve_language(name).code
        if code in found:
            raise UserError(f"The key {key} names {code} twice, the second time as {name!r}: write it once.")
        found[code] = value
    return found


def resolve_languages(texts: Iterable[str], source: str = ENGLISH) -> tuple[str, ...]:
    """Turns names of target languages into distinct NLLB codes, sorted.

    Args:
        texts: Names, tags or codes.
        source: NLLB code of the language that is translated from, which is refused as a target.

    Raises:
        UserError: A name is unknown or ambiguous, or is the source language.
    """
    codes = {resolve_language(text).code for text in texts}
    if source in codes:
        name = resolve_language(source).english_name
        raise UserError(f"{name} ({source}) is the source language; name only the languages to translate into.")
    return tuple(sorted(codes))
