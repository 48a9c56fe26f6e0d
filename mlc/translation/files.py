"""A file of texts in, its translations out: each row of the file is accounted for."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlc.cache import cache_folder
from mlc.errors import UserError
from mlc.shapes.prompts import Reading, reading_of
from mlc.tables import (
    BATCH_ROWS,
    LINE_COLUMN,
    Row,
    TableFile,
    TableWriter,
    columns_in_words,
    plain_text,
    text_of,
)
from mlc.translation.memory import MEMORY_FOLDER
from mlc.translation.table import SCHEMA, made_by, row_of

if TYPE_CHECKING:
    from mlc.translation.translator import Step, Translation, Translator

TEXT_COLUMNS = ("source", "prompt", "text", "sentence")
"""Columns that are taken for the texts; a file that has several must be asked about."""
REPEATED_ID = "repeated id"
UNTRANSLATED = "no translation"
WORDLESS = "no words, left as it is"
REFUSED = "refused by the translator"
PROBLEM = pa.field("problem", pa.string())
RETURN = pa.field("back_translation", pa.string())

OnStep = Callable[["Step"], None]
_Done = tuple["_Text", dict[str, "Translation"], "Made"]


@dataclass
class Count:
    """What became of the texts in one language."""

    translated: int = 0
    unfinished: int = 0
    lost: int = 0
    """Texts of which a protected part did not come through."""
    by_fallback: int = 0
    """Translated texts whose translation is a fallback's."""


Fallbacks = Mapping[str, Sequence[Callable[[], "Translator"]]]
"""By language, what loads the translators that are asked for texts without a translation, one after the other."""


@dataclass
class Tally:
    """What became of the file."""

    languages: dict[str, Count]
    rows: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    """Rows by what is wrong with them."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Texts:
    """Where the texts of a file are."""

    column: str | None
    """The column that holds nothing but texts; None where a known shape has them inside other columns."""
    reading: Reading | None = None
    """How the rows of a known shape are read."""

    def of(self, row: Row) -> tuple[str, str | None]:
        """The text of a row, and what is wrong with it; what is no text comes as JSON, so that it is not lost."""
        if row.problem:
            return "", row.problem
        if self.reading is not None:
            values, problems = self.reading.values(row)
            return values.get("prompt") or "", problems.get("prompt")
        value = row.values.get(str(self.column))
        text, problem = text_of(value)
        return text if text or value is None else plain_text(value) or "", problem


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


def texts_of(file: TableFile, column: str | None) -> Texts:
    """Finds the texts of a file.

    Args:
        file: The file.
        column: Name of their column; if None, the one of :data:`TEXT_COLUMNS` that is there, else the prompts of a
            known shape.

    Raises:
        UserError: There is no such column, or several could be meant.
    """
    if column is not None:
        file.require([column])
        return Texts(column)
    if not file.columns:
        raise UserError(f"The file {file.location!r} holds no row: give at least one text.")
    found = [name for name in file.columns if name.casefold() in TEXT_COLUMNS]
    if len(found) == 1:
        return Texts(found[0])
    if found:
        raise UserError(
            f"The file {file.location!r} has the columns {' and '.join(found)}, and each could hold the texts: name "
            "one.",
            about="text column",
        )
    try:
        reading = reading_of(file)
    except UserError:
        reading = None
    if reading is None or "prompt" not in reading.columns:
        raise UserError(
            f"The file {file.location!r} has no column {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]} "
            f"({columns_in_words(file.columns)}): name the column of the texts.",
            about="text column",
        )
    return Texts(None, reading)


def notes_on(file: TableFile, texts: Texts, *, asked: bool) -> list[str]:
    """What was understood of a file that does not go without saying.

    Args:
        file: The file.
        texts: Where its texts are.
        asked: Whether a person named the column.
    """
    found = [f"Read as {', '.join(file.notes)}."] if file.notes else []
    if texts.reading is not None:
        place = texts.reading.columns["prompt"]
        found.append(f"The texts are the prompts in the column {place!r} ({texts.reading.name}).")
    elif not asked and texts.column != LINE_COLUMN:
        found.append(f"The texts are in the column {texts.column!r}.")
    return found


def require_translated(tally: Tally, texts: Texts) -> None:
    """Checks what became of a file.

    Raises:
        UserError: It has rows, and none was translated.
    """
    if not tally.rows or any(count.translated for count in tally.languages.values()):
        return
    reasons = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(tally.problems.items()))
    hint = "name another column"
    if "not a text" in tally.problems and texts.column is not None:
        hint += ", or none for the prompts of conversations"
    raise UserError(f"Nothing was translated ({reasons}): {hint}.", about="text column")


def output_schema(file: TableFile, texts: Texts, *, back: bool) -> pa.Schema:
    """Columns of the output: the row's id, the others of the input, and what is added.

    Args:
        file: The input.
        texts: Where its texts are.
        back: Whether the translations are translated back.

    Raises:
        UserError: The input has a column of such a name already.
    """
    added = SCHEMA.append(PROBLEM)
    added = added.append(RETURN) if back else added
    carried = [item.with_name(_carried(item.name)) for item in file.schema if item.name not in (texts.column, "id")]
    clash = [item.name for item in carried if item.name in added.names]
    if clash:
        raise UserError(
            f"The file {file.location!r} has a column {clash[0]!r} already, which the translations need: rename it."
        )
    own = file.schema.field("id") if "id" in file.columns else pa.field("id", pa.string())
    return pa.schema([own, *carried, *added])


def _carried(name: str) -> str:
    """The name of a column of the input in the output, where ``source`` is the text."""
    return "file_source" if name == "source" else name


def translate_rows(
    file: TableFile,
    texts: Texts,
    writer: TableWriter,
    translator: "Translator",
    tally: Tally,
    *,
    source: str,
    on_step: OnStep,
    on_step_back: OnStep | None = None,
    fallbacks: Fallbacks | None = None,
) -> None:
    """Translates the rows of a file, for each row of the input one a language, in the order of the input.

    Args:
        file: The input.
        texts: Where its texts are.
        writer: Takes the output.
        translator: Translates.
        tally: Counts; its languages are those that are translated into.
        source: NLLB code of the language of the texts.
        on_step: Called as the work goes on.
        on_step_back: The same for the way back; nothing is translated back if None.
        fallbacks: Who is asked for the texts that have no translation otherwise.

    Raises:
        UserError: The engine does not know a language, or the output cannot be written.
    """
    rows = _translated(file, texts, translator, source, tally, on_step, fallbacks or {})
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        if on_step_back is not None:
            _translate_back(batch, translator, source, on_step_back)
        writer.write(batch)


def _translated(
    file: TableFile,
    texts: Texts,
    translator: "Translator",
    source: str,
    tally: Tally,
    on_step: OnStep,
    fallbacks: Fallbacks,
) -> Iterator[dict[str, Any]]:
    # A copy of the rows waits beside the translator, however many of them it takes at once.
    read, carried = itertools.tee(_waiting(file, texts))
    stream = translator.stream(
        (item.asked for item in read), source=source, targets=tuple(tally.languages), on_progress=on_step
    )
    made = made_by(translator.facts)
    pairs = zip(carried, stream, strict=True)
    for item, done, others_made in _with_fallbacks(pairs, source, fallbacks) if fallbacks else _alone(pairs):
        tally.rows += 1
        problem = item.problem or _wordless(done.values())
        if problem or not all(translation.text for translation in done.values()):
            reason = problem or why_not(next(row for row in done.values() if not row.text))
            tally.problems[reason] = tally.problems.get(reason, 0) + 1
        others = {_carried(name): value for name, value in item.row.values.items() if name != texts.column}
        for target, translation in done.items():
            _count(tally.languages[target], translation)
            tally.languages[target].by_fallback += target in others_made
            own = row_of(item.text, translation, source=source, target=target)
            yield {
                "id": str(item.row.number),
                **others,
                **own,
                **others_made.get(target, made),
                **_gaps(translation, problem),
            }


Made = dict[str, dict[str, str]]
"""By language, who made a translation that is not the first translator's."""


def _alone(pairs: "Iterable[tuple[_Text, dict[str, Translation]]]") -> "Iterator[_Done]":
    for item, done in pairs:
        yield item, done, {}


def _with_fallbacks(
    pairs: "Iterable[tuple[_Text, dict[str, Translation]]]", source: str, fallbacks: Fallbacks
) -> "Iterator[_Done]":
    """Asks the fallbacks for what has no translation, some rows at a time."""
    remaining = iter(pairs)
    while batch := list(itertools.islice(remaining, BATCH_ROWS)):
        made: list[Made] = [{} for _ in batch]
        for target, chain in fallbacks.items():
            for load in chain:
                gaps = [place for place, (item, done) in enumerate(batch) if item.asked and not done[target].text]
                if not gaps:
                    break
                fallback = load()
                asked = [batch[place][0].asked for place in gaps]
                for place, found in zip(gaps, fallback.translate(asked, source=source, target=target), strict=True):
                    if found.text:
                        batch[place][1][target] = found
                        made[place][target] = made_by(fallback.facts)
        for (item, done), own in zip(batch, made, strict=True):
            yield item, done, own


def _waiting(file: TableFile, texts: Texts) -> Iterator[_Text]:
    seen: set[str] = set()
    for row in file:
        text, problem = texts.of(row)
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


def _wordless(done: Iterable["Translation"]) -> str | None:
    """What is said of a text that is its own translation."""
    return WORDLESS if all(translation.text and not translation.sentences_in for translation in done) else None


def _count(count: Count, done: "Translation") -> None:
    count.translated += bool(done.text)
    count.unfinished += bool(done.text) and not done.finished
    count.lost += bool(done.lost)


def _gaps(done: "Translation", problem: str | None) -> dict[str, Any]:
    """What is said of a row in place of a translation that is not there."""
    if done.text:
        return {"problem": problem}
    return {"translation": None, "logprob": None, "finished": None, "problem": problem or why_not(done)}


def why_not(done: "Translation") -> str:
    """Why a text has no translation, in a few words."""
    return f"{REFUSED}: {done.refusal}" if done.refusal else UNTRANSLATED


def _translate_back(rows: Sequence[dict[str, Any]], translator: "Translator", home: str, on_step: OnStep) -> None:
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_language.setdefault(row["target_language"], []).append(row)
    for language, members in by_language.items():
        texts = [row["translation"] or "" for row in members]
        back = translator.translate(texts, source=language, target=home, on_progress=on_step)
        for row, done in zip(members, back, strict=True):
            row[RETURN.name] = done.text or None
