"""The checks of a gate in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from flows.terminal.output import plain_table, shown

NARROW = 80
"""Columns of a terminal that nobody has widened."""
_GAP = 2
"""Blanks between two columns."""
_WRAPPED = ("condition", "where", "verdict")
"""Columns of words, which may break."""
_LEAST = 8
"""Letters of a word that is too long for its column and is folded."""


def gate_table(checks: Sequence[Mapping[str, Any]], width: int = NARROW) -> Table:
    """Every check, failed ones first. Where it is narrow, words break between them and nothing is cut.

    Args:
        checks: As :meth:`mlc.evaluation.gate.deciding.Check.row` has them.
        width: Columns of the terminal.
    """
    from mlc.evaluation.gate.deciding import HEADS, check_cells
    from mlc.report.wording import check_place

    ordered = sorted(checks, key=lambda row: bool(row["passed"]))
    rows = [(name, check_place(check), *rest) for check in ordered for name, _, *rest in [check_cells(check)]]
    widths = _fitting(HEADS, rows, width)
    if widths is None:
        rows = [(*row[:4], row[4].replace(" (", "\n("), *row[5:]) for row in rows]
        widths = _fitting(HEADS, rows, width) or _fitting(HEADS, rows, width, folding=True)
    table = plain_table(*HEADS, right=("value", "n"))
    for column, own in zip(table.columns, widths or (), strict=False):
        column.width, column.overflow = own, "fold"
    for check, row in zip(ordered, rows, strict=True):
        cells = ["\n".join(map(shown, cell.split("\n"))) for cell in row]
        table.add_row(*cells, style=None if check["passed"] else "red")
    return table


def _fitting(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, folding: bool = False
) -> list[int] | None:
    """Widths of columns that fit; None if there are none in which no word, or with folding no figure, breaks."""
    columns = [(head, *cells) for head, cells in zip(heads, zip(*rows, strict=True), strict=True)]
    widths = [max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns]
    least = [_longest_word(cells) if cells[0] in _WRAPPED else own for cells, own in zip(columns, widths, strict=True)]
    if folding:
        least = [min(own, _LEAST) if head in _WRAPPED else own for head, own in zip(heads, least, strict=True)]
    while sum(widths) + _GAP * (len(widths) - 1) > width:
        spare = [own - bound for own, bound in zip(widths, least, strict=True)]
        if not any(spare):
            return None
        widths[spare.index(max(spare))] -= 1
    return widths


def _longest_word(cells: Iterable[str]) -> int:
    return max(len(word) for cell in cells for word in cell.split())
