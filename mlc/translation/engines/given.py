"""The engine ``given``: a table of translations that people made."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language
from mlc.shipped import resolve_path
from mlc.store.hashing import digest_unchanged
from mlc.tables import TABLE_ENDINGS, TableFile
from mlc.translation.engines.protocol import Batch, SentenceTranslation, identity_of, require_languages
from mlc.translation.settings import TranslatorSettings

VERSION = 1
"""Raised when the same table would give other translations than before."""
COLUMNS = ("source", "target_language", "translation")
_FORM = (
    "a .parquet, .csv, .tsv or .jsonl file with the columns source, target_language and translation, and perhaps "
    "source_language"
)


def given_file(location: str) -> Path:
    """The file of a table of translations.

    Raises:
        UserError: It is not there.
    """
    path = resolve_path(location, Path.cwd())
    if not path.is_file():
        raise UserError(f"The table of given translations {location!r} is not a file: set translator.model to {_FORM}.")
    return path


def given_facts(path: Path) -> dict[str, Any]:
    """The facts of a table of translations: its content."""
    return {"engine": "given", "version": VERSION, "model": digest_unchanged(path), "decoding": {}}


class GivenEngine:
    """Looks whole texts up in a table; a text that is not there stays without translation.

    Args:
        path: The table; white space around a text does not count.

    Raises:
        UserError: The table cannot be read, lacks columns, names unknown languages, or gives two translations of one
            text.
    """

    whole_texts = True
    remembers = False
    longest_sentence = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given: dict[tuple[str, str], dict[str, str]] = {}
        file = TableFile(path, formats=TABLE_ENDINGS, what="table of given translations")
        file.require(COLUMNS)
        for row in file:
            if row.problem:
                raise UserError(
                    f"Row {row.number} of the given translations {str(path)!r} cannot be read ({row.problem}): "
                    "mend it, or take the row out."
                )
            self._add(row.number, *(row.values.get(name) for name in (*COLUMNS, "source_language")))

    @classmethod
    def from_settings(cls, settings: TranslatorSettings) -> "GivenEngine":
        """Reads the table that the configuration names as model."""
        return cls(given_file(settings.model))

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        return given_facts(self._path)

    @cached_property
    def identity(self) -> str:
        return identity_of(self.facts)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(sorted({code for pair in self._given for code in pair}))

    def lengths(self, sentences: Sequence[str], *, source: str) -> list[int]:
        return [0] * len(sentences)

    def translate(
        self, sentences: Sequence[str], *, source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        require_languages(str(self._path), self.languages, (source, *targets))
        for target in targets:
            given = self._given.get((source, target), {})
            yield (
                target,
                {
                    sentence: SentenceTranslation(given[sentence.strip()], None, 0, finished=True)
                    for sentence in sentences
                    if sentence.strip() in given
                },
            )

    def refusals(self, done: Mapping[str, SentenceTranslation], *, source: str, target: str) -> Mapping[str, str]:
        return {}

    def _add(self, number: int, text: Any, target: Any, translation: Any, source: Any) -> None:
        if not all(isinstance(value, str) and value.strip() for value in (text, target, translation)):
            raise UserError(
                f"Row {number} of the given translations {str(self._path)!r} lacks a source, a target_language or a "
                "translation: fill it in, or take the row out."
            )
        pair = resolve_language(source or ENGLISH).code, resolve_language(target).code
        before = self._given.setdefault(pair, {}).setdefault(text.strip(), translation)
        if before != translation:
            raise UserError(
                f"Row {number} of the given translations {str(self._path)!r} gives another translation into {pair[1]} "
                "of a text that stands above it: keep one of the two."
            )
