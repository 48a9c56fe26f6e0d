"""Pairs of source and translation in the shapes that corpora have."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language
from mlc.shapes.prompts import plain_name
from mlc.tables import Row, TableFile, columns_in_words

SIDES = ("source", "translation")
LANGUAGES = ("source_language", "target_language")
ROLES = (*SIDES, *LANGUAGES)

_NAMES = {
    "source": ("source", "src", "original", "source_text", "src_text", "source_sentence"),
    "translation": ("translation", "mt", "target", "tgt", "hypothesis", "target_text", "tgt_text", "target_sentence"),
    "source_language": ("source_language", "source_lang", "src_lang", "lang_src", "src_language"),
    "target_language": ("target_language", "target_lang", "tgt_lang", "lang_tgt", "tgt_language"),
}
"""What corpora call the columns, in lower case; the first that is there counts."""
_BY_LANGUAGE = "translation"
"""The column of records by language that the library ``datasets`` has for parallel texts."""


@dataclass(frozen=True)
class PairReading:
    """How the rows of a table become pairs."""

    columns: Mapping[str, str]
    """Columns of the table by role."""
    constants: Mapping[str, str]
    """Languages by role, where no column names them."""
    records: tuple[str, str] | None = None
    """Keys of both texts in the records of the column ``translation``."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Roles for which there is nothing."""
        sides = () if self.records else tuple(role for role in SIDES if role not in self.columns)
        return (*sides, *(role for role in LANGUAGES if role not in {**self.columns, **self.constants}))

    @property
    def in_words(self) -> str:
        """What was understood, for people; empty if there is nothing to say."""
        taken = [f"{role} from {plain_name(name)}" for role, name in self.columns.items() if role != name]
        if self.records:
            taken += [f"{role} from {_BY_LANGUAGE}.{key}" for role, key in zip(SIDES, self.records, strict=True)]
        taken += [f"{role} {code}" for role, code in self.constants.items()]
        return ", ".join(taken)

    def values(self, row: Row) -> dict[str, Any]:
        """The four roles of a row."""
        found: dict[str, Any] = {role: row.values.get(name) for role, name in self.columns.items()}
        if self.records:
            record = row.values.get(_BY_LANGUAGE)
            record = record if isinstance(record, Mapping) else {}
            found |= {role: record.get(key) for role, key in zip(SIDES, self.records, strict=True)}
        return {**found, **self.constants}


def pair_reading(
    file: TableFile,
    *,
    columns: Mapping[str, str] | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> PairReading:
    """Finds out what the columns of a table mean.

    Two columns that are called by languages, as ``en`` and ``hi`` are, hold the texts in them; English is the source if
    it is there, else the first.

    Args:
        file: The table.
        columns: Columns by role, where a person says so.
        source_language: Language of all sources, as a person writes it.
        target_language: Language of all translations.

    Raises:
        UserError: A column is not there, a language is unknown, or several columns could be meant.
    """
    given = dict(columns or {})
    for role, name in given.items():
        if name not in file.columns:
            raise UserError(
                f"The {file.what} {file.location!r} has no column {name!r} ({columns_in_words(file.columns)}): name "
                f"another one for the {role}."
            )
    constants = {
        role: resolve_language(text).code
        for role, text in zip(LANGUAGES, (source_language, target_language), strict=True)
        if text is not None
    }
    folded = {name.casefold(): name for name in reversed(file.columns)}
    known = {role: [folded[name] for name in names if name in folded] for role, names in _NAMES.items()}
    found = {role: names[0] for role, names in known.items() if names}
    records: tuple[str, str] | None = None
    if not {"source"} & {*found, *given}:
        keys = _record_keys(file) if "translation" in found else ()
        named = keys or file.columns
        languages = {code: name for name in named if (code := _language(name)) is not None}
        pair = _two_languages(languages, constants, file)
        if pair is not None:
            constants = {**dict(zip(LANGUAGES, pair, strict=True)), **constants}
            texts = languages[pair[0]], languages[pair[1]]
            if keys:
                found.pop("translation")
                records = texts
            else:
                found |= dict(zip(SIDES, texts, strict=True))
    chosen = {**found, **given}
    for role in constants:
        # What a person says counts more than what a column does.
        chosen.pop(role, None)
    return PairReading({role: chosen[role] for role in ROLES if role in chosen}, constants, records)


def _two_languages(
    languages: Mapping[str, str], constants: Mapping[str, str], file: TableFile
) -> tuple[str, str] | None:
    source, target = (constants.get(role) for role in LANGUAGES)
    if source in languages and target in languages:
        return str(source), str(target)
    others = [code for code in languages if code not in (source, target)]
    if len(languages) < 2:
        return None
    if len(languages) > 2 and not (len(others) == 1 and (source in languages or target in languages)):
        raise UserError(
            f"The {file.what} {file.location!r} has texts in {len(languages)} languages ({', '.join(languages)}): say "
            "which is the language of the sources and which that of the translations."
        )
    if source is None and target is None:
        source = ENGLISH if ENGLISH in languages else others[0]
        others = [code for code in others if code != source]
    strange = next((code for code in (source, target) if code is not None and code not in languages), None)
    if strange is not None:
        raise UserError(
            f"The {file.what} {file.location!r} has texts in {' and '.join(languages)}, not in {strange}: correct the "
            "language."
        )
    return source or others[0], target or others[0]


def _record_keys(file: TableFile) -> tuple[str, ...]:
    """Languages in the records of the column ``translation``."""
    for row in islice(file, 1):
        value = row.values.get(_BY_LANGUAGE)
        if isinstance(value, Mapping):
            return tuple(value)
    return ()


def _language(name: str) -> str | None:
    if name == "id":  # also the tag of Indonesian
        return None
    try:
        return resolve_language(name).code
    except UserError:
        return None
