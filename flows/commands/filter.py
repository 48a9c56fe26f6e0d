"""`mlc filter`: a file of pairs in, a file of verdicts out, a funnel in the terminal."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.terminal import completion
from flows.terminal.display import new_progress
from flows.terminal.options import JsonOption, PickleOption
from flows.terminal.output import plain_table, print_json, results, terminal
from flows.terminal.quiet import be_quiet, set_unless_set
from mlc.choices import words_of
from mlc.errors import UserError
from mlc.languages import resolve_language

if TYPE_CHECKING:
    from mlc.quality.models import PairModel
    from mlc.quality.pairs import PairFile
    from mlc.quality.settings import QualitySettings
    from mlc.quality.streaming import Summary

TOP_REASONS = 3
_NAMED = 3
"""Languages that a warning names."""
EXAMPLES = (
    "mlc filter pairs.csv --out verdicts.csv --from en --to sw",
    "mlc filter pairs.jsonl --out verdicts.parquet --set default.length_z=3",
)


def command(
    pairs: Annotated[
        str,
        typer.Argument(
            help="A table with the columns source, translation, source_language and target_language, or another known "
            "shape; two files side by side as corpus.{en,hi}."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the verdicts; the ending names the format.")],
    source_column: Annotated[str | None, typer.Option(help="Column of the sources.")] = None,
    target_column: Annotated[str | None, typer.Option(help="Column of the translations.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", "-f", help="Language of all sources.", autocompletion=completion.languages)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", "-t", help="Language of all translations.", autocompletion=completion.languages),
    ] = None,
    signals: Annotated[
        str, typer.Option(help="text, all, or names of signals: length,copied. All needs a translator.")
    ] = "text",
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="A YAML file with the keys of quality, or a configuration.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A threshold, such as default.length_z=3; repeatable.")
    ] = None,
    translator: Annotated[
        str | None, typer.Option(help="NLLB or M2M100 checkpoint for the signals that need one.")
    ] = None,
    allow_pickle: PickleOption = False,
    embedding: Annotated[str | None, typer.Option(help="Sentence-embedding model for the signal meaning.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads; the result is the same for any number.")] = 2,
    go_on: Annotated[bool, typer.Option("--go-on", help="Exit with 0 even if nothing is kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge translations: every signal, and what to keep."""
    be_quiet()
    # Arrow's own pool keeps what it has had; a filter should be small.
    set_unless_set({"ARROW_DEFAULT_MEMORY_POOL": "system"})
    from flows.configuration.overrides import parse_overrides
    from flows.configuration.sections import load_quality
    from mlc.quality.choice import named_signals, require_measured
    from mlc.quality.pairs import PairFile
    from mlc.quality.streaming import filter_file

    quality = load_quality(config, parse_overrides(settings or []))
    names = named_signals(words_of([signals]), quality.more_signals)
    require_measured(quality, names)
    if out.exists() and Path(pairs).exists() and out.samefile(pairs):
        raise UserError(f"The verdicts would replace the pairs in {pairs!r}: name another file with --out.")
    columns = {"source": source_column, "translation": target_column}
    file = PairFile(
        pairs,
        columns={role: name for role, name in columns.items() if name is not None},
        source_language=source,
        target_language=target,
    )
    for note in file.notes:
        terminal.print(note, highlight=False, markup=False, soft_wrap=True)
    for warning in _overridden(file):
        terminal.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    model = _model(names, translator, embedding, quality, allow_pickle=allow_pickle)
    started = time.perf_counter()
    with new_progress(terminal) as bars:
        tasks = {name: bars.add_task(name, total=len(file)) for name in ("measured", "judged")}
        summary = filter_file(
            file,
            out,
            quality,
            signals=names,
            model=model,
            threads=threads,
            on_progress=lambda name, rows: bars.advance(tasks[name], rows),
        )
    if as_json:
        print_json({"rows": summary.rows, "kept": summary.kept, "funnel": summary.funnel().to_pylist()})
    else:
        _show(summary, out, time.perf_counter() - started, results)
    if summary.rows and not summary.kept and not go_on:
        told = ", ".join(f"{reason} ({count:,})" for reason, count in summary.reasons().most_common(TOP_REASONS))
        raise UserError(
            f"Nothing is kept: all {summary.rows:,} pairs were dropped, most for {told}. The verdicts are in "
            f"{str(out)!r}: look at them, correct the languages or loosen the thresholds with --set, or go on with "
            "--go-on."
        )


def _overridden(file: "PairFile") -> list[str]:
    """Says how many rows name another language than an option gives all of them."""
    warnings = []
    for role, option in (("source_language", "--from"), ("target_language", "--to")):
        given, own = file.reading.constants.get(role), f"file_{role}"
        if given is None or own not in file.schema.names:
            continue
        read = json.loads if own in file.json_columns else str
        counts = Counter(str(read(value)) for chunk, _ in file.chunks() for value in chunk[own].to_pylist() if value)
        others = {value: count for value, count in counts.items() if _code(value) != given}
        if others:
            said = f"{', '.join(list(others)[:_NAMED])}{' and others' if len(others) > _NAMED else ''}"
            warnings.append(
                f"{sum(others.values()):,} of {len(file):,} rows say {said} in {role}, and are judged as {_name(given)}"
                f": leave out {option} to judge them by what they say."
            )
    return warnings


def _name(code: str | None) -> str:
    """By name; what is in no table as it is."""
    try:
        return resolve_language(code or "").english_name
    except UserError:
        return code or ""


def _code(language: str) -> str:
    try:
        return resolve_language(language).code
    except UserError:
        return language


def _model(
    names: Sequence[str],
    translator: str | None,
    embedding: str | None,
    quality: "QualitySettings",
    *,
    allow_pickle: bool,
) -> "PairModel | None":
    """What measures the signals that need a model, if one of them is asked for."""
    from mlc.quality.choice import model_signals
    from mlc.quality.estimating import QualityEstimator
    from mlc.quality.models import PairModel, SentenceEncoder
    from mlc.translation.settings import TranslatorSettings
    from mlc.translation.translator import Translator

    wanted = model_signals(names)
    if not wanted:
        return None
    settings = TranslatorSettings(model=translator, allow_pickle=allow_pickle) if translator else None
    loaded = Translator.from_settings(settings) if settings else None
    estimator = QualityEstimator.from_settings(quality.estimator) if "estimate" in wanted else None
    return PairModel(wanted, loaded, SentenceEncoder.load(embedding) if embedding else None, estimator)


def _show(summary: "Summary", out: Path, seconds: float, console: Console) -> None:
    table = plain_table("language", "", "rows", "share", right=("rows", "share"))
    language = None
    for row in summary.funnel().to_pylist():
        first = row["target_language"] != language
        language = row["target_language"]
        style = "bold" if row["reason"] == "kept" else ""
        table.add_row(
            _name(language) if first else "", row["reason"], f"{row['rows']:,}", f"{row['share']:.1%}", style=style
        )
    console.print(table)
    for code, count in sorted(summary.not_identified.items()):
        console.print(f"{_rows(count)} in {_name(code)}: the language identifier does not know it.", highlight=False)
    for problem, count in summary.problems.most_common(TOP_REASONS):
        console.print(f"{_rows(count)} cannot be used: {escape(problem)}.", highlight=False, soft_wrap=True)
    speed = f", {summary.rows / seconds:,.0f} pairs a second" if summary.rows else ""
    console.print(
        f"{summary.kept:,} of {summary.rows:,} pairs kept{speed}. Verdicts: {escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
