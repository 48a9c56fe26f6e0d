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
    from mlc.evaluation.gate.deciding import HEADS
    from mlc.report.wording import check_words, checks_in_order

    conditions: dict[str, list[Mapping[str, Any]]] = {}
    _, where, *figures, _, verdict, count = HEADS
    table = plain_table(f"  {where}", *figures, verdict, count, right=("value", count))
    for check in checks_in_order(checks):
        name, place, *values, demand, said, number = check_words(check)
        conditions.setdefault(f"{name} {demand}", []).append(check)
        cells = map(shown, (f"  {place}", *values, said, number))
        table.add_row(*cells, style=None if check["passed"] else "red")
    head, *lines = table_lines(table, console)
    console.print(head, soft_wrap=True)
    rows = iter(lines)
    for condition, own in conditions.items():
        console.print(f"[bold]{shown(condition)}[/]", highlight=False, soft_wrap=True)
        for _ in own:
            console.print(next(rows), soft_wrap=True)
