"""Edits of weights in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.terminal.output import plain_table, shown


def show_edits(told: dict[str, Any], console: Console) -> None:
    """Prints what `mlc edit` did.

    Args:
        told: As with ``--json``.
        console: Where to print.
    """
    for name, rows in told.get("searches", {}).items():
        console.print(_search_table(name, rows))
        if not any(row["best"] for row in rows):
            console.print(f"No trial for {name} keeps the limits and is better than the unedited model.")
    for name, delta in told.get("deltas", {}).items():
        if delta["layers"]:
            console.print(_units_table(name, delta["layers"]))
        if not delta["projections"]:
            console.print(
                f"The delta {name} changes nothing: no layer has a safety unit, or there is nothing to repair."
            )
    if told.get("overlaps"):
        console.print(_overlap_table(told["overlaps"]))
    for note in told.get("notes", ()):
        console.print(note, highlight=False)
    if "taken_out" in told:
        console.print(f"Taken out: {', '.join(told['taken_out'])}.", highlight=False)
    if "out" in told:
        console.print(f"Written to {shown(told['out'])}.", highlight=False, soft_wrap=True)


def _search_table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    columns = list(rows[-1])
    table = plain_table(*columns, title=f"Search, {name}")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns), style="bold" if row["best"] else None)
    return table


def _units_table(name: str, layers: Sequence[dict[str, Any]]) -> Table:
    columns = ("layer", "share of units", "Jaccard with English", "gate: units, rank, kept", "up: units, rank, kept")
    table = plain_table(*columns, title=f"Safety units, {name}")
    for layer in layers:
        sides = (layer.get(projection) for projection in ("gate_proj", "up_proj"))
        table.add_row(
            str(layer["layer"]),
            f"{layer['share_of_units']:.4f}",
            ", ".join(f"{code} {value:.2f}" for code, value in layer["jaccard_with_english"].items()),
            *(f"{side['units']}, {side['rank']}, {side['kept']:.2f}" if side else "–" for side in sides),
        )
    return table


def _overlap_table(found: Sequence[dict[str, Any]]) -> Table:
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in found:
        pairs.setdefault((one["first"], one["second"]), []).append(one)
    columns = ("first", "second", "projections", "Jaccard of units", "cosine of changes")
    table = plain_table(*columns, title="Overlap")
    for (first, second), members in pairs.items():
        means = (sum(one[name] for one in members) / len(members) for name in ("jaccard", "cosine"))
        table.add_row(first, second, str(len(members)), *(f"{value:.2f}" for value in means))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "best" if value else ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)
