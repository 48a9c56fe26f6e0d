"""``mlc translate``: a file of texts in, its translations out, each row of the file accounted for."""

import itertools
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.terminal.display import TranslationBars
from flows.terminal.options import words_of
from mlc.cache import cache_folder
from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.shapes.prompts import Reading, reading_of
from mlc.store.hashing import canonical_json
from mlc.tables import (
    BATCH_ROWS,
    LINE_COLUMN,
    Format,
    Row,
    TableFile,
    TableWriter,
    columns_in_words,
    format_of,
    plain_text,
    text_of,
    written_as,
)
from mlc.translation.settings import TranslatorSettings

if TYPE_CHECKING:
    from mlc.translation.translator import Translation, Translator

STANDARD_INPUT = "-"
TEXT_COLUMNS = ("source", "prompt", "text", "sentence")
"""Columns that are taken for the texts; a file that has several must be asked about."""
REPEATED_ID = "repeated id"
UNTRANSLATED = "no translation"

ADDED = pa.schema(
    [
        ("source", pa.string()),
        ("translation", pa.string()),
        ("source_language", pa.string()),
        ("target_language", pa.string()),
        ("logprob", pa.float64()),
        ("finished", pa.bool_()),
        ("sentences_in", pa.int64()),
        ("sentences_out", pa.int64()),
        ("sentence_logprobs", pa.list_(pa.float64())),
        ("lost", pa.list_(pa.string())),
        ("repaired", pa.int64()),
        ("translator", pa.string()),
        ("decoding", pa.string()),
        ("problem", pa.string()),
    ]
)
"""Columns of the output, beside those of the input; ``back_translation`` comes with ``--back``."""


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


def translate_file(
    location: str,
    *,
    targets: Sequence[str],
    source: str,
    out: Path | None,
    column: str | None,
    read_as: Format | None,
    write_as: Format | None,
    settings: TranslatorSettings,
    memory: Path | None,
    back: bool,
    console: Console,
) -> dict[str, Any]:
    """Translates a file.

    Args:
        location: The file, or ``-`` for standard input.
        targets: Languages to translate into, as people write them.
        source: Language of the texts.
        out: The file to write; standard output if None.
        column: The column of the texts.
        read_as: Format of the input; by the ending if None, plain lines from standard input.
        write_as: Format of the output; by the ending if None, that of the input on standard output.
        settings: The translator.
        memory: Folder of the translation memories; nothing is remembered if None.
        back: Translates the translations back, too.
        console: For progress and the summary.

    Returns:
        What became of the file, as plain data.

    Raises:
        UserError: Anything that the person can mend.
    """
    home, languages = _languages(source, targets)
    with ExitStack() as opened:
        path = opened.enter_context(_spooled()) if location == STANDARD_INPUT else location
        file = TableFile(path, read_as or ("lines" if location == STANDARD_INPUT else None))
        texts = _texts_of(file, column)
        for note in _notes(file, texts, asked=column is not None):
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        form = write_as or (format_of(out, what="output") if out else written_as(file.format))
        if form == "lines" and len(languages) > 1:
            raise UserError(
                f"Plain lines hold one language, not {len(languages)}: name one with --to, or write .jsonl, .csv, .tsv "
                "or .parquet."
            )
        # Before a model is loaded and time is spent, it is clear that the result can be written.
        writer = opened.enter_context(
            TableWriter(out, form, _schema(file, texts.column, back=back), lines="translation")
        )
        translator = _load(settings, memory, console)
        tally = Tally({code: Count() for code in languages})
        bars = opened.enter_context(TranslationBars(console, (*languages, home) if back else languages, len(file)))
        began = time.monotonic()
        rows = _translated(file, texts, translator, home, tally, bars)
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            writer.write(_with_return(batch, translator, home, bars) if back else batch)
        tally.seconds = time.monotonic() - began
    _summarize(tally, console, out)
    if tally.rows and not any(count.translated for count in tally.languages.values()):
        raise UserError(_nothing_translated(tally, texts))
    return asdict(tally)


def _languages(source: str, targets: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    words = words_of(targets)
    if not words:
        raise UserError("No language to translate into is named: write --to es,sw; `mlc languages` lists them.")
    home = resolve_language(source).code
    codes = tuple(dict.fromkeys(resolve_language(word).code for word in words))
    if home in codes:
        raise UserError(f"{home} is the language of the texts: name others with --to, or another with --from.")
    return home, codes


@contextmanager
def _spooled() -> Iterator[Path]:
    """Standard input as a file, because it is read twice: to see what there is, and to translate it."""
    with tempfile.TemporaryDirectory(prefix="mlc-") as folder:
        path = Path(folder) / "standard-input"
        with path.open("wb") as handle:
            shutil.copyfileobj(sys.stdin.buffer, handle)
        yield path


@dataclass(frozen=True)
class Texts:
    """Where the texts are."""

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


def _texts_of(file: TableFile, column: str | None) -> Texts:
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
            "one with --column."
        )
    try:
        reading = reading_of(file)
    except UserError:
        reading = None
    if reading is None or "prompt" not in reading.columns:
        raise UserError(
            f"The file {file.location!r} has no column {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]} "
            f"({columns_in_words(file.columns)}): name the column of the texts with --column."
        )
    return Texts(None, reading)


def _notes(file: TableFile, texts: Texts, *, asked: bool) -> list[str]:
    """What was understood of the file that does not go without saying."""
    found = [f"Read as {', '.join(file.notes)}."] if file.notes else []
    if texts.reading is not None:
        place = texts.reading.columns["prompt"]
        found.append(f"The texts are the prompts in the column {place!r} ({texts.reading.name}).")
    elif not asked and texts.column != LINE_COLUMN:
        found.append(f"The texts are in the column {texts.column!r}.")
    return found


def _nothing_translated(tally: Tally, texts: Texts) -> str:
    reasons = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(tally.problems.items()))
    hint = "name another column with --column"
    if "not a text" in tally.problems and texts.column is not None:
        hint += ", or leave it out for the prompts of conversations"
    return f"Nothing was translated ({reasons}): {hint}."


def _schema(file: TableFile, texts: str | None, *, back: bool) -> pa.Schema:
    """Columns of the output: the row's id, the others of the input, and what is added."""
    added = ADDED.append(pa.field("back_translation", pa.string())) if back else ADDED
    carried = [item.with_name(_carried(item.name)) for item in file.schema if item.name not in (texts, "id")]
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


def _load(settings: TranslatorSettings, memory: Path | None, console: Console) -> "Translator":
    from mlc.translation.translator import Translator

    if settings.engine in ("transformers", "ctranslate2") and settings.model == TranslatorSettings().model:
        console.print(
            "[yellow]![/] The shipped translator is a toy that knows the quickstart's sentences; of any other text it "
            "makes nonsense. Name a real one with --model, such as facebook/nllb-200-distilled-600M.",
            highlight=False,
            soft_wrap=True,
        )
    return Translator.from_settings(settings, memory)


def default_memory() -> Path:
    """Where ``mlc translate`` remembers sentences unless it is told otherwise."""
    return cache_folder() / "memory"


def _translated(
    file: TableFile, texts: Texts, translator: "Translator", source: str, tally: Tally, bars: TranslationBars
) -> Iterator[dict[str, Any]]:
    """Rows of the output: for each row of the input one a language, in the order of the input."""
    waiting: deque[tuple[Row, str, str | None]] = deque()
    seen: set[str] = set()

    def usable() -> Iterator[str]:
        for row in file:
            text, problem = texts.of(row)
            # A text that cannot be translated goes through as a blank, so that the order is kept.
            yield "" if problem else text
            repeated = _repeated(row, seen)
            waiting.append((row, text, problem or repeated))

    facts = translator.facts
    constant = {
        "source_language": source,
        "translator": f"{facts['engine']}:{facts['model']}",
        "decoding": canonical_json(facts["decoding"]),
    }
    for done in translator.stream(usable(), source=source, targets=tuple(tally.languages), on_progress=bars.step):
        row, text, problem = waiting.popleft()
        tally.rows += 1
        if problem or not all(translation.text for translation in done.values()):
            reason = problem or UNTRANSLATED
            tally.problems[reason] = tally.problems.get(reason, 0) + 1
        carried = {_carried(name): value for name, value in row.values.items() if name != texts.column}
        for target, count in tally.languages.items():
            columns = _columns(done[target], problem)
            count.translated += columns["translation"] is not None
            count.unfinished += not columns["finished"] and columns["translation"] is not None
            count.lost += bool(columns["lost"])
            named = {"id": str(row.number), **carried, "source": text, **constant, "target_language": target}
            yield named | columns


def _repeated(row: Row, seen: set[str]) -> str | None:
    """The translation of a row whose id came before is as good as any; the person should know of it all the same."""
    name = row.values.get("id")
    if name is None:
        return None
    repeated = str(name) in seen
    seen.add(str(name))
    return REPEATED_ID if repeated else None


def _columns(done: "Translation", problem: str | None) -> dict[str, Any]:
    text = done.text or None
    return {
        "translation": text,
        "logprob": done.logprob if text else None,
        "finished": done.finished if text else None,
        "sentences_in": done.sentences_in,
        "sentences_out": done.sentences_out,
        "sentence_logprobs": list(done.logprobs),
        "lost": list(done.lost),
        "repaired": done.repaired,
        "problem": problem if problem or text else UNTRANSLATED,
    }


def _with_return(
    rows: list[dict[str, Any]], translator: "Translator", home: str, bars: TranslationBars
) -> list[dict[str, Any]]:
    """Adds the translations back."""
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_language.setdefault(row["target_language"], []).append(row)
    for language, members in by_language.items():
        texts = [row["translation"] or "" for row in members]
        back = translator.translate(texts, source=language, target=home, on_progress=bars.step_back)
        for row, done in zip(members, back, strict=True):
            row["back_translation"] = done.text or None
    return rows


def _summarize(tally: Tally, console: Console, out: Path | None) -> None:
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("language", "", "translated", "cut off", "parts lost"):
            table.add_column(name, justify="left" if name in ("language", "") else "right")
        for code, count in tally.languages.items():
            figures = (count.translated, count.unfinished, count.lost)
            table.add_row(resolve_language(code).english_name, code, *(f"{figure:,}" for figure in figures))
        console.print(table)
    problems = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(tally.problems.items()))
    place = f" → {out}" if out else ""
    console.print(
        escape(
            f"{tally.rows:,} rows in {tally.seconds:.1f} s{place}"
            + (f"; with a problem: {problems}." if problems else ".")
        ),
        highlight=False,
        soft_wrap=True,
    )
