"""The checks of a gate in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from flows.terminal.output import plain_table, shown


def gate_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    """Every check, failed ones first.

    Args:
        checks: As :meth:`mlc.evaluation.gate.deciding.Check.row` has them.
    """
    from mlc.evaluation.gate.deciding import HEADS, check_cells
    from mlc.report.wording import check_place

    table = plain_table(*HEADS, right=("value", "n"))
    for column in table.columns[2:]:
        # Where a terminal is narrow, words break rather than figures.
        column.no_wrap = True
    for check in sorted(checks, key=lambda row: bool(row["passed"])):
        name, _, *cells = check_cells(check)
        table.add_row(*map(shown, (name, check_place(check), *cells)), style=None if check["passed"] else "red")
    return table
