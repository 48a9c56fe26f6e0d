"""Rows of a run in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from flows.terminal.output import fitted_table, shown
from flows.terminal.texts import one_line
from mlc.languages import all_languages
from mlc.store.plain import rounded

_HEADS = ("id", "language", "suite", "model", "label", "kind", "outcome")
"""Columns whose values tell which they are."""
_IDS = ("id", "repeats")
_LANGUAGES = ("language", "answer language")
_NAMES = {language.code: language.english_name for language in all_languages()}
_INDENT = 2


def show_counts(counts: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints how many rows each language and model has, by outcome.

    Args:
        counts: ``language``, ``suite``, ``model`` and ``outcomes``, the counts by outcome.
        console: Where to print.
    """
    told = [name for name in ("suite", "model") if any(entry[name] for entry in counts)]
    rows = [
        [
            _language(entry["language"]),
            *(entry[name] or "" for name in told),
            f"{sum(entry['outcomes'].values()):,}",
            ", ".join(f"{outcome} {count:,}" for outcome, count in entry["outcomes"].items()),
        ]
        for entry in counts
    ]
    console.print(fitted_table(("language", *told, "rows", "of these"), rows, console.width, right=("rows",)))


def show_rows(rows: Sequence[Mapping[str, Any]], texts: Sequence[str], console: Console) -> None:
    """Prints rows.

    Args:
        rows: ``id``, ``language``, ``suite``, ``model``, ``label``, ``outcome`` and figures, perhaps texts.
        texts: Columns that hold texts, which get a line each below their row; if there are any.
        console: Where to print.
    """
    rows = [{**row, **{name: _language(row[name]) for name in _LANGUAGES if name in row}} for row in rows]
    columns = [name for name in rows[0] if name not in texts and any(_cell(row[name]) for row in rows)]
    if "kind" in columns:
        # It says the same as the label, and which are look-alikes.
        columns.remove("label")
    if texts:
        for row in rows:
            _show_with_texts(row, columns, texts, console)
        return
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    figures = [name for name in columns if _is_figure(rows, name)]
    console.print(fitted_table(columns, cells, console.width, right=figures, whole=_IDS))


def _show_with_texts(row: Mapping[str, Any], columns: Sequence[str], texts: Sequence[str], console: Console) -> None:
    name, *cells = (_cell(row[column]) if column in _HEADS else _named(column, row[column]) for column in columns)
    told = " · ".join(cell for cell in cells if cell)
    console.print(f"[bold]{shown(name)}[/]  {shown(told)}", highlight=False, soft_wrap=not console.is_terminal)
    longest = max(map(len, texts))
    # What a pipe or a file gets is whole.
    width = console.width - longest - 2 * _INDENT if console.is_terminal else None
    for column in texts:
        line = Text.assemble((f"{'':{_INDENT}}{column:{longest + _INDENT}}", "dim"), one_line(row[column] or "", width))
        console.print(line, soft_wrap=True, highlight=False)


def _language(code: str | None) -> str:
    """By name; a code that is in no table stays one."""
    return _NAMES.get(code or "", code or "")


def _named(column: str, value: Any) -> str:
    cell = _cell(value)
    return f"{column} {cell}" if cell else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(rounded(value, 2))
    return ", ".join(value) if isinstance(value, list) else str(value)


def _is_figure(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(row[name], float) for row in rows)
