"""The filter by itself: a file of pairs in, a file of verdicts out, a funnel in the terminal."""

import difflib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.config import load_quality, parse_overrides
from flows.terminal.display import new_progress
from flows.terminal.options import words_of
from flows.terminal.server import quiet_environment
from mlc.errors import UserError
from mlc.quality.settings import MODEL_THRESHOLDS, QualitySettings

if TYPE_CHECKING:
    from mlc.quality.models import PairModel
    from mlc.quality.streaming import Summary

TOP_REASONS = 3
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


def show_filter(
    pairs: Path,
    out: Path,
    *,
    signals: str,
    config: str | None,
    settings: Sequence[str],
    translator: str | None,
    embedding: str | None,
    threads: int,
    go_on: bool,
    as_json: bool,
    console: Console,
    progress: Console,
) -> None:
    """Judges the pairs of a file and tells what was dropped.

    Args:
        pairs: File of pairs.
        out: File of verdicts.
        signals: ``text``, ``all``, or names of signals with commas between them.
        config: YAML file with thresholds.
        settings: Thresholds as ``key=value``.
        translator: Checkpoint for the signals that need one.
        embedding: Sentence-embedding model.
        threads: Threads to measure with.
        go_on: Whether nothing kept is no mistake.
        as_json: Print one JSON object in place of the table.
        console: For results.
        progress: For bars.

    Raises:
        UserError: Something cannot be read or written, or nothing is kept.
    """
    from mlc.quality.pairs import PairFile
    from mlc.quality.streaming import filter_file

    quality = load_quality(config, parse_overrides(settings))
    names = chosen_names(signals, quality.more_signals)
    _require_signals(quality, names)
    if out.exists() and pairs.exists() and out.samefile(pairs):
        raise UserError(f"The verdicts would replace the pairs in {str(pairs)!r}: name another file with --out.")
    count = len(PairFile(pairs))
    model = _load_model(names, translator, embedding)
    started = time.perf_counter()
    with new_progress(progress) as bars:
        tasks = {name: bars.add_task(name, total=count) for name in ("measured", "judged")}
        summary = filter_file(
            pairs,
            out,
            quality,
            signals=names,
            model=model,
            threads=threads,
            on_progress=lambda name, rows: bars.advance(tasks[name], rows),
        )
    if as_json:
        funnel = summary.funnel().to_pylist()
        console.print_json(json.dumps({"rows": summary.rows, "kept": summary.kept, "funnel": funnel}), indent=None)
    else:
        _show(summary, out, time.perf_counter() - started, console)
    if summary.rows and not summary.kept and not go_on:
        raise UserError(_nothing_kept(summary, out))


def chosen_names(signals: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of signals from what a person wrote.

    Args:
        signals: ``text``, ``all``, or names of signals with commas between them.
        more: Signals of the person's own.

    Raises:
        UserError: A name is unknown.
    """
    from mlc.quality.signals import signals_of, text_signals

    known = [signal.name for signal in signals_of(more)]
    if signals.strip() in ("text", "all"):
        return tuple(known if signals.strip() == "all" else [signal.name for signal in text_signals(more)])
    names = words_of([signals])
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose text, all, or from {', '.join(known)}."
            raise UserError(f"The signal {name!r} is unknown: {hint}")
    if not names:
        raise UserError(f"--signals names no signal: choose text, all, or from {', '.join(known)}.")
    # A row that cannot be read has no other signal, so it is always told.
    return tuple(name for name in known if name in names or name == "unusable")


def _require_signals(quality: QualitySettings, names: Sequence[str]) -> None:
    for name, thresholds in MODEL_THRESHOLDS.items():
        for threshold in thresholds:
            if getattr(quality.default, threshold) is not None and name not in names:
                raise UserError(
                    f"The threshold default.{threshold} is set, but the signal {name!r} is not measured: add it to "
                    "--signals, or take the threshold out."
                )


def _load_model(names: Sequence[str], translator: str | None, embedding: str | None) -> "PairModel | None":
    wanted = [name for name in names if name in MODEL_THRESHOLDS]
    if not wanted:
        return None
    for name, value in {**quiet_environment(), **QUIET}.items():
        os.environ.setdefault(name, value)
    from mlc.quality.models import PairModel, SentenceEncoder
    from mlc.translation.settings import TranslatorSettings
    from mlc.translation.translator import Translator

    loaded = Translator.from_settings(TranslatorSettings(model=translator)) if translator else None
    return PairModel(wanted, loaded, SentenceEncoder.load(embedding) if embedding else None)


def _show(summary: "Summary", out: Path, seconds: float, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("language", "", "rows", "share"):
        table.add_column(column, justify="right" if column in ("rows", "share") else "left")
    language = None
    for row in summary.funnel().to_pylist():
        first = row["target_language"] != language
        language = row["target_language"]
        style = "bold" if row["reason"] == "kept" else ""
        table.add_row(language if first else "", row["reason"], f"{row['rows']:,}", f"{row['share']:.1%}", style=style)
    console.print(table)
    for code, count in sorted(summary.not_identified.items()):
        console.print(f"{_rows(count)} in {code}: the language identifier does not know it.", highlight=False)
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


def _nothing_kept(summary: "Summary", out: Path) -> str:
    reasons: dict[str, int] = {}
    for (_, reason), count in summary.counts.items():
        reasons[reason] = reasons.get(reason, 0) + count
    top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:TOP_REASONS]
    told = ", ".join(f"{reason} ({count:,})" for reason, count in top)
    return (
        f"Nothing is kept: all {summary.rows:,} pairs were dropped, most for {told}. The verdicts are in {str(out)!r}: "
        "look at them, correct the languages or loosen the thresholds with --set, or go on with --go-on."
    )
