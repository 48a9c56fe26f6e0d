"""A plan in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.terminal.output import plain_table, shown

Task = dict[str, Any]
"""See :func:`flows.commands.plan.plan_run`."""
_LANGUAGES_SHOWN = 2


def show_plan(planned: list[Task], console: Console) -> None:
    """Prints a plan, one line a task."""
    table = _table("stage", "language", "", "action", "new rows", "about", "why")
    for task in planned:
        cached = task["action"] == "cached"
        last = (_count(task["rows_new"]), _seconds(task["seconds_estimated"]), task["reason"])
        action = "[cyan]cached[/]" if cached else "[yellow]run[/]"
        place = [shown(task[name] or "") for name in ("stage", "language", "subject")]
        table.add_row(*place, action, *(() if cached else map(shown, last)))
    console.print(table)
    _show_total(planned, console)


def show_work(planned: list[Task], console: Console) -> None:
    """Prints what a plan would run, the languages of a stage in one line."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in planned:
        if task["action"] == "run":
            groups.setdefault((task["stage"], task["subject"] or ""), []).append(task)
    table = _table("stage", "", "languages", "new rows", "about", "why")
    for (stage, subject), tasks in groups.items():
        languages = [task["language"] for task in tasks if task["language"]]
        told = ", ".join(languages) if len(languages) <= _LANGUAGES_SHOWN else str(len(languages))
        reasons = list(dict.fromkeys(task["reason"] for task in tasks))
        why = reasons[0] if len(reasons) == 1 else f"{reasons[0]}, and others"
        rows, seconds = (_sum([task[name] for task in tasks]) for name in ("rows_new", "seconds_estimated"))
        table.add_row(stage, shown(subject), told, _count(rows), _seconds(seconds), shown(why))
    if table.row_count:
        console.print(table)
    _show_total(planned, console)


def _table(*columns: str) -> Table:
    return plain_table(*columns, right=("new rows", "about"))


def _show_total(planned: list[Task], console: Console) -> None:
    to_run = [task for task in planned if task["action"] == "run"]
    known = [task["seconds_estimated"] for task in to_run if task["seconds_estimated"] is not None]
    words = f"{len(to_run)} tasks would run, {len(planned) - len(to_run)} are cached"
    if known:
        new = len(to_run) - len(known)
        rest = f", and {new} task{'' if new == 1 else 's'} that never ran here" if new else ""
        words += f"; about {_seconds(sum(known))} of work by past runs{rest}"
    console.print(f"{words}.", highlight=False, soft_wrap=True)


def _sum(values: Sequence[Any]) -> Any:
    """None if there is one among them that is not known."""
    return None if None in values else sum(values)


def _count(rows: int | None) -> str:
    return "" if rows is None else str(rows)


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.0f} min"
