"""What a run would do, without Prefect's server and without loading a model."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.align_flow import pipeline
from flows.config import PipelineConfig
from tasks.runtime.run import Outcome, Run

Task = dict[str, Any]
_LANGUAGES_SHOWN = 2


def foresee(config: PipelineConfig) -> Run:
    """Walks through the pipeline and looks which artifacts are there; nothing in the workspace changes.

    A task whose input is made anew counts as one that runs; if that input turns out the same as before, the run will
    find it cached after all. Reading prompt files costs so little that it is done, in a temporary folder, so that what
    follows is known.

    Returns:
        The planned run, with its outcomes and the key parts of every task.
    """
    with tempfile.TemporaryDirectory(prefix="mlc-plan-") as scratch:
        run = Run(config.open_store(), planning=True, scratch=Path(scratch))
        pipeline(run, config)
    return run


def plan_run(config: PipelineConfig) -> list[Task]:
    """What a run would do.

    Returns:
        One entry a task: ``stage``, ``language``, ``subject``, ``action`` (``run`` or ``cached``), ``reason``,
        ``rows_new`` (None for a task without rows) and ``seconds_estimated`` (None without experience).
    """
    return [planned_task(outcome) for outcome in foresee(config).outcomes]


def planned_task(outcome: Outcome) -> Task:
    """One task of a plan as plain data."""
    names = ("stage", "language", "subject", "reason", "rows_new", "seconds_estimated")
    told = {name: getattr(outcome, name) for name in names}
    return {**told, "action": "cached" if outcome.state == "cached" else "run"}


def with_outcomes(planned: Iterable[Task], outcomes: Iterable[Outcome]) -> list[Task]:
    """The tasks of a run, each with what was planned for it.

    Returns:
        One entry a task in the order in which they ended: the fields of a plan; ``state`` (``ran`` or ``cached``),
        ``seconds``, ``seconds_saved`` and ``key``. ``reason`` and ``rows_new`` are those of the run.
    """
    foreseen = {(task["stage"], task["language"], task["subject"]): task for task in planned}
    tasks = []
    for outcome in outcomes:
        task = foreseen.get((outcome.stage, outcome.language, outcome.subject), planned_task(outcome))
        tasks.append({**task, **asdict(outcome), "seconds_estimated": task["seconds_estimated"]})
    return tasks


def show_plan(planned: list[Task], console: Console) -> None:
    """Prints a plan, one line a task."""
    table = _table("stage", "language", "", "action", "new rows", "about", "why")
    for task in planned:
        cached = task["action"] == "cached"
        last = (_count(task["rows_new"]), _seconds(task["seconds_estimated"]), task["reason"])
        action = "[cyan]cached[/]" if cached else "[yellow]run[/]"
        place = [task["stage"], task["language"] or "", task["subject"] or ""]
        table.add_row(*place, action, *(() if cached else map(escape, last)))
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
        shown = ", ".join(languages) if len(languages) <= _LANGUAGES_SHOWN else str(len(languages))
        reasons = list(dict.fromkeys(task["reason"] for task in tasks))
        why = reasons[0] if len(reasons) == 1 else f"{reasons[0]}, and others"
        rows, seconds = (_sum([task[name] for task in tasks]) for name in ("rows_new", "seconds_estimated"))
        table.add_row(stage, subject, shown, _count(rows), _seconds(seconds), escape(why))
    if table.row_count:
        console.print(table)
    _show_total(planned, console)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("new rows", "about") else "left")
    return table


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
