"""`mlc translate`: a file of texts in, its translations out."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.terminal import completion
from flows.terminal.display import TranslationBars
from flows.terminal.options import CellsOption, JsonOption, SetOption, load
from flows.terminal.output import plain_table, print_json, terminal
from mlc.choices import Format, words_of
from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language

if TYPE_CHECKING:
    from mlc.translation.files import Tally
    from mlc.translation.settings import ChainSettings, TranslatorSettings
    from mlc.translation.translator import Translator

STANDARD_INPUT = "-"
EXAMPLES = (
    "mlc translate prompts.csv --to es,sw --out translated.csv",
    "mlc translate prompts.jsonl --to fr -m facebook/nllb-200-distilled-600M",
    "cat lines.txt | mlc translate - --from English --to Swahili",
)


def command(
    file: Annotated[str, typer.Argument(help="A table, plain lines (.txt), hf:owner/name or a URL; - for input.")],
    to: Annotated[
        list[str],
        typer.Option("--to", "-t", help="Languages to translate into: es,sw.", autocompletion=completion.languages),
    ],
    source: Annotated[
        str, typer.Option("--from", "-f", help="Language of the texts.", autocompletion=completion.languages)
    ] = ENGLISH,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; standard output if left out.")] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the texts; source, prompt, text or sentence if left out.")
    ] = None,
    read_as: Annotated[
        Format | None, typer.Option("--input-format", help="By the ending of the file if left out.")
    ] = None,
    write_as: Annotated[
        Format | None,
        typer.Option("--output-format", help="By the ending of --out if left out, else that of the input."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="NLLB, M2M100, Marian, MADLAD-400 …: hub id, folder or shipped:nano."),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Translate the translations back, too.")] = False,
    memory: Annotated[
        Path | None, typer.Option(help="Folder of the translation memory; one in the user's cache if left out.")
    ] = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Remember nothing.")] = False,
    config: Annotated[str | None, typer.Option(help="Configuration whose translator is used.")] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    cells: CellsOption = False,
) -> None:
    """Translate a file; every row of it is accounted for."""
    if as_json and out is None:
        raise UserError("--json and the translations both want standard output: name a file with --out.")
    overrides = [*(settings or []), *([f"translator.model={model}"] if model else [])]
    chosen = load(config or "quickstart", settings=overrides).translator
    home, languages = _languages(source, to)
    from mlc.tables import TableFile, TableWriter, format_of, written_as
    from mlc.translation.files import (
        Count,
        Tally,
        default_memory,
        notes_on,
        output_schema,
        require_translated,
        texts_of,
        translate_rows,
    )

    with ExitStack() as opened:
        path = opened.enter_context(_spooled()) if file == STANDARD_INPUT else file
        table = TableFile(path, read_as or ("lines" if file == STANDARD_INPUT else None))
        texts = texts_of(table, column)
        for note in notes_on(table, texts, asked=column is not None):
            terminal.print(note, highlight=False, markup=False, soft_wrap=True)
        form = write_as or (format_of(out, what="output") if out else written_as(table.format))
        if form == "lines" and len(languages) > 1:
            raise UserError(
                f"Plain lines hold one language, not {len(languages)}: name one with --to, or write .jsonl, .csv, .tsv "
                "or .parquet."
            )
        # Before a model is loaded and time is spent, it is clear that the result can be written.
        schema = output_schema(table, texts, back=back)
        writer = opened.enter_context(TableWriter(out, form, schema, lines="translation", cells=cells))
        place = None if no_memory else memory or default_memory()
        translator = _translator(chosen.first, place, terminal)
        tally = Tally({code: Count() for code in languages})
        bars = opened.enter_context(TranslationBars(terminal, (*languages, home) if back else languages, len(table)))
        began = time.monotonic()
        on_step_back = bars.step_back if back else None
        translate_rows(
            table,
            texts,
            writer,
            translator,
            tally,
            source=home,
            on_step=bars.step,
            on_step_back=on_step_back,
            fallbacks=_fallbacks(chosen, languages, place),
        )
        tally.seconds = time.monotonic() - began
    _summarise(tally, terminal, out)
    require_translated(tally, texts)
    if as_json:
        print_json(asdict(tally))


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


def _translator(settings: "TranslatorSettings", memory: Path | None, console: Console) -> "Translator":
    from mlc.translation.translator import Translator

    if settings.engine in ("transformers", "ctranslate2") and settings.model == type(settings)().model:
        console.print(
            "[yellow]![/] The shipped translator is a toy that knows the quickstart's sentences; of any other text it "
            "makes nonsense. Name a real one with --model, such as facebook/nllb-200-distilled-600M.",
            highlight=False,
            soft_wrap=True,
        )
    return Translator.from_settings(settings, memory)


def _fallbacks(
    settings: "ChainSettings", languages: Sequence[str], memory: Path | None
) -> "dict[str, list[Callable[[], Translator]]]":
    """What loads the fallbacks of each language; each of them once, and none that is not asked."""
    from mlc.translation.translator import Translator

    @cache
    def load(number: int) -> "Translator":
        return Translator.from_settings(loaded[number], memory)

    loaded = dict(chain for language in languages for chain in settings.after_it(language))
    by_language: dict[str, list[Callable[[], Translator]]] = {
        language: [partial(load, number) for number, _ in settings.after_it(language)] for language in languages
    }
    return {language: chain for language, chain in by_language.items() if chain}


def _summarise(tally: "Tally", console: Console, out: Path | None) -> None:
    if console.is_terminal:
        numbers = ("translated", "cut off", "parts lost")
        table = plain_table("language", "", *numbers, right=numbers)
        for code, count in tally.languages.items():
            figures = (count.translated, count.unfinished, count.lost)
            table.add_row(resolve_language(code).english_name, code, *(f"{figure:,}" for figure in figures))
        console.print(table)
    problems = ", ".join(f"{count:,} × {reason}" for reason, count in sorted(tally.problems.items()))
    place = f" → {out}" if out else ""
    if fallen := {code: count.by_fallback for code, count in tally.languages.items() if count.by_fallback}:
        told = ", ".join(f"{count:,} into {code}" for code, count in fallen.items())
        console.print(f"By fallbacks: {told}.", highlight=False)
    told = f"; with a problem: {problems}." if problems else "."
    console.print(escape(f"{tally.rows:,} rows in {tally.seconds:.1f} s{place}{told}"), highlight=False, soft_wrap=True)
