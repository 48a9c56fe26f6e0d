"""A file of texts in, its translations out: each row of the file is accounted for."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlc.errors import UserError
from mlc.models.sources import cache_folder
from mlc.tables import BATCH_ROWS, Row, TableFile, TableWriter, columns_in_words, text_of
from mlc.translation.memory import MEMORY_FOLDER
from mlc.translation.table import SCHEMA, made_by, row_of

if TYPE_CHECKING:
    from mlc.translation.translator import Step, Translation, Translator

TEXT_COLUMNS = ("source", "prompt", "text", "sentence")
"""Columns that are taken for the texts, the first of them that is there."""
REPEATED_ID = "repeated id"
UNTRANSLATED = "no translation"
PROBLEM = pa.field("problem", pa.string())
RETURN = pa.field("back_translation", pa.string())

OnStep = Callable[["Step"], None]


@dataclass
class Count:
    """What became of the texts in one language."""

    translated: int = 0
    unfinished: int = 0
    lost: int = 0
    """Texts of which a protected part did not come through."""


@dataclass
class Tally:
    """What became of the file."""

    languages: dict[str, Count]
    rows: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    """Rows by what is wrong with them."""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Text:
    """A row of the file on its way."""

    row: Row
    text: str
    asked: str
    """The text, or a blank in place of one that cannot be translated, so that the order is kept."""
    problem: str | None
    """What is to be told of it."""


def default_memory() -> Path:
    """Where sentences of files that belong to no workspace are remembered."""
    return cache_folder() / MEMORY_FOLDER


def text_column(file: TableFile, column: str | None) -> str:
    """The column of the texts.

    Args:
        file: The file.
        column: Its name; one of :data:`TEXT_COLUMNS` if None.

    Raises:
        UserError: There is no such column.
    """
    if column is not None:
        file.require([column])
        return column
    found = next((name for name in TEXT_COLUMNS if name in file.columns), None)
    if found is None:
        if not file.columns:
            raise UserError(f"The file {str(file.path)!r} holds no row: give at least one text.")
        raise UserError(
            f"The file {str(file.path)!r} has no column {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]} "
            f"({columns_in_words(file.columns)}): name the column of the texts.",
            about="text column",
        )
    return found


def output_schema(file: TableFile, texts: str, *, back: bool) -> pa.Schema:
    """Columns of the output: the row's id, the others of the input, and what is added.

    Args:
        file: The input.
        texts: Its column of texts.
        back: Whether the translations are translated back.

    Raises:
        UserError: The input has a column of such a name already.
    """
    added = SCHEMA.append(PROBLEM)
    added = added.append(RETURN) if back else added
    carried = [item for item in file.schema if item.name not in (texts, "id")]
    clash = [item.name for item in carried if item.name in added.names]
    if clash:
        raise UserError(
            f"The file {str(file.path)!r} has a column {clash[0]!r} already, which the translations need: rename it."
        )
    own = file.schema.field("id") if "id" in file.columns else pa.field("id", pa.string())
    return pa.schema([own, *carried, *added])


def translate_rows(
    file: TableFile,
    texts: str,
    writer: TableWriter,
    translator: "Translator",
    tally: Tally,
    *,
    source: str,
    on_step: OnStep,
    on_step_back: OnStep | None = None,
) -> None:
    """Translates the rows of a file, for each row of the input one a language, in the order of the input.

    Args:
        file: The input.
        texts: Its column of texts.
        writer: Takes the output.
        translator: Translates.
        tally: Counts; its languages are those that are translated into.
        source: NLLB code of the language of the texts.
        on_step: Called as the work goes on.
        on_step_back: The same for the way back; nothing is translated back if None.

    Raises:
        UserError: The engine does not know a language, or the output cannot be written.
    """
    rows = _translated(file, texts, translator, source, tally, on_step)
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        if on_step_back is not None:
            _translate_back(batch, translator, source, on_step_back)
        writer.write(batch)


def _translated(
    file: TableFile, texts: str, translator: "Translator", source: str, tally: Tally, on_step: OnStep
) -> Iterator[dict[str, Any]]:
    # A copy of the rows waits beside the translator, however many of them it takes at once.
    read, carried = itertools.tee(_texts(file, texts))
    stream = translator.stream(
        (item.asked for item in read), source=source, targets=tuple(tally.languages), on_progress=on_step
    )
    made = made_by(translator.facts)
    for item, done in zip(carried, stream, strict=True):
        tally.rows += 1
        if item.problem or not all(translation.text for translation in done.values()):
            reason = item.problem or UNTRANSLATED
            tally.problems[reason] = tally.problems.get(reason, 0) + 1
        others = {name: value for name, value in item.row.values.items() if name != texts}
        for target, translation in done.items():
            _count(tally.languages[target], translation)
            own = row_of(item.text, translation, source=source, target=target)
            yield {"id": str(item.row.number), **others, **own, **made, **_gaps(translation, item.problem)}


def _texts(file: TableFile, column: str) -> Iterator[_Text]:
    seen: set[str] = set()
    for row in file:
        text, problem = ("", row.problem) if row.problem else text_of(row.values.get(column))
        repeated = _repeated(row, seen)
        yield _Text(row, text, "" if problem else text, problem or repeated)


def _repeated(row: Row, seen: set[str]) -> str | None:
    """The translation of a row whose id came before is as good as any; the person should know of it all the same."""
    name = row.values.get("id")
    if name is None:
        return None
    repeated = str(name) in seen
    seen.add(str(name))
    return REPEATED_ID if repeated else None


def _count(count: Count, done: "Translation") -> None:
    count.translated += bool(done.text)
    count.unfinished += bool(done.text) and not done.finished
    count.lost += bool(done.lost)


def _gaps(done: "Translation", problem: str | None) -> dict[str, Any]:
    """What is said of a row in place of a translation that is not there."""
    if done.text:
        return {"problem": problem}
    return {"translation": None, "logprob": None, "finished": None, "problem": problem or UNTRANSLATED}


def _translate_back(rows: Sequence[dict[str, Any]], translator: "Translator", home: str, on_step: OnStep) -> None:
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_language.setdefault(row["target_language"], []).append(row)
    for language, members in by_language.items():
        texts = [row["translation"] or "" for row in members]
        back = translator.translate(texts, source=language, target=home, on_progress=on_step)
        for row, done in zip(members, back, strict=True):
            row[RETURN.name] = done.text or None
