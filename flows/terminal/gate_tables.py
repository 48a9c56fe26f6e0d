"""The checks of a gate in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from flows.terminal.output import plain_table, shown, table_lines


def show_gate(checks: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints every check below the condition that it is of, conditions with a failed one first.

    Args:
        checks: As :meth:`mlc.evaluation.gate.deciding.Check.row` has them.
        console: Where to print.
    """
    from mlc.evaluation.gate.deciding import HEADS, check_cells
    from mlc.report.wording import check_place

    conditions: dict[str, list[Mapping[str, Any]]] = {}
    for check in sorted(checks, key=lambda check: bool(check["passed"])):
        conditions.setdefault(f"{check['name']} {check['demand']}", []).append(check)
    _, where, *figures, _, verdict, count = HEADS
    table = plain_table(f"  {where}", *figures, verdict, count, right=("value", count))
    for check in (check for own in conditions.values() for check in own):
        _, _, *values, _, said, number = check_cells(check)
        cells = map(shown, (f"  {check_place(check)}", *values, said, number))
        table.add_row(*cells, style=None if check["passed"] else "red")
    head, *lines = table_lines(table, console)
    console.print(head, soft_wrap=True)
    rows = iter(lines)
    for condition, own in conditions.items():
        console.print(f"[bold]{shown(condition)}[/]", highlight=False, soft_wrap=True)
        for _ in own:
            console.print(next(rows), soft_wrap=True)
