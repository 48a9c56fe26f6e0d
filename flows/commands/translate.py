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
from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.models.sources import cache_folder
from mlc.store.hashing import canonical_json
from mlc.tables import BATCH_ROWS, Format, Row, TableFile, TableWriter, columns_in_words, format_of, text_of
from mlc.translation.settings import TranslatorSettings

if TYPE_CHECKING:
    from mlc.translation.translator import Translation, Translator

STANDARD_INPUT = "-"
TEXT_COLUMNS = ("source", "prompt", "text", "sentence")
"""Columns that are taken for the texts, the first of them that is there."""
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
        path = opened.enter_context(_spooled()) if location == STANDARD_INPUT else Path(location)
        file = TableFile(path, read_as or ("lines" if location == STANDARD_INPUT else None))
        texts = _text_column(file, column)
        form = write_as or (format_of(out, what="output") if out else file.format)
        if form == "lines" and len(languages) > 1:
            raise UserError(
                f"Plain lines hold one language, not {len(languages)}: name one with --to, or write .jsonl, .csv, .tsv "
                "or .parquet."
            )
        # Before a model is loaded and time is spent, it is clear that the result can be written.
        writer = opened.enter_context(TableWriter(out, form, _schema(file, texts, back=back), lines="translation"))
        translator = _load(settings, memory, console)
        tally = Tally({code: Count() for code in languages})
        bars = opened.enter_context(TranslationBars(console, (*languages, home) if back else languages, len(file)))
        began = time.monotonic()
        rows = _translated(file, texts, translator, home, tally, bars)
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            writer.write(_with_return(batch, translator, home, bars) if back else batch)
        tally.seconds = time.monotonic() - began
    _summarize(tally, console, out)
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


def _text_column(file: TableFile, column: str | None) -> str:
    if column is not None:
        file.require([column])
        return column
    found = next((name for name in TEXT_COLUMNS if name in file.columns), None)
    if found is None:
        if not file.columns:
            raise UserError(f"The file {str(file.path)!r} holds no row: give at least one text.")
        raise UserError(
            f"The file {str(file.path)!r} has no column {', '.join(TEXT_COLUMNS[:-1])} or {TEXT_COLUMNS[-1]} "
            f"({columns_in_words(file.columns)}): name the column of the texts with --column."
        )
    return found


def _schema(file: TableFile, texts: str, *, back: bool) -> pa.Schema:
    """Columns of the output: the row's id, the others of the input, and what is added."""
    added = ADDED.append(pa.field("back_translation", pa.string())) if back else ADDED
    carried = [item for item in file.schema if item.name not in (texts, "id")]
    clash = [item.name for item in carried if item.name in added.names]
    if clash:
        raise UserError(
            f"The file {str(file.path)!r} has a column {clash[0]!r} already, which the translations need: rename it."
        )
    own = file.schema.field("id") if "id" in file.columns else pa.field("id", pa.string())
    return pa.schema([own, *carried, *added])


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
    file: TableFile, texts: str, translator: "Translator", source: str, tally: Tally, bars: TranslationBars
) -> Iterator[dict[str, Any]]:
    """Rows of the output: for each row of the input one a language, in the order of the input."""
    waiting: deque[tuple[Row, str, str | None]] = deque()
    seen: set[str] = set()

    def usable() -> Iterator[str]:
        for row in file:
            text, problem = ("", row.problem) if row.problem else text_of(row.values.get(texts))
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
        carried = {name: value for name, value in row.values.items() if name != texts}
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
