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

    table = plain_table(*HEADS, right=("value", "n"))
    for check in sorted(checks, key=lambda row: bool(row["passed"])):
        table.add_row(*map(shown, check_cells(check)), style=None if check["passed"] else "red")
    return table
