"""A plan in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.terminal.output import print_explained, shown
from tasks.runtime.run import INPUT_IS_NEW
from tasks.runtime.shards import is_shard, without_shard

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig

Task = dict[str, Any]
"""See :func:`flows.commands.plan.planned_task`."""
_SUBJECTS_SHOWN = 2
_FIGURES = ("tasks", "rows", "about")
_IN_SHORT = {INPUT_IS_NEW: "new input"}
"""Frequent reasons, in a line that has many columns."""


def show_plan(planned: list[Task], console: Console) -> None:
    """Prints a whole plan, one line a task."""
    from mlc.report.wording import named

    rows = []
    for task in _shards_in_one(planned):
        cached = task["action"] == "cached"
        why = named(_IN_SHORT.get(task["reason"], task["reason"]) or "")
        last = [_count(task["rows_new"]), _seconds(task["seconds_estimated"]), why]
        action = "[cyan]cached[/]" if cached else f"[yellow]run[/]{task.get('share', '')}"
        place = [shown(named(task[name] or "")) for name in ("stage", "language", "subject")]
        rows.append([*place, action, *(["", "", ""] if cached else map(shown, last))])
    print_explained(("stage", "language", "", "action", "rows", "about", "why"), rows, console, right=_FIGURES)
    _show_total(planned, console)


def where_in_words(config: "PipelineConfig") -> str:
    """Says where a run would compute its stages."""
    name, address = config.runner.name, config.runner.address
    if name in ("threads", "processes"):
        return f"Stages are computed in {name} of this machine."
    cluster = f"the {name.capitalize()} cluster at {address}" if address else f"a local {name.capitalize()} cluster"
    asked = [
        f"{stage} ({', '.join(f'{kind}: {amount:g}' for kind, amount in amounts.items())})"
        for stage, amounts in config.resources.items()
    ]
    return f"Stages are computed by {cluster}{'; resources for ' if asked else ''}{', '.join(asked)}."


def show_work(planned: list[Task], console: Console) -> None:
    """Prints what a plan would run, the tasks of a stage in one line, with the rows that are new."""
    from mlc.report.wording import named

    groups: dict[str, list[Task]] = {}
    for task in planned:
        if task["action"] == "run":
            groups.setdefault(task["stage"], []).append(task)
    lines = []
    for stage, tasks in groups.items():
        languages, subjects, reasons = (_distinct(tasks, name) for name in ("language", "subject", "reason"))
        # Of a model the method says enough.
        wholes = filter(None, map(without_shard, subjects))
        methods = list(dict.fromkeys(subject.partition(" · ")[0] for subject in wholes))
        why = reasons[0] if len(reasons) == 1 else f"{reasons[0]}, and others"
        rows, seconds = (_sum([task[name] for task in tasks]) for name in ("rows_new", "seconds_estimated"))
        place = named(languages[0]) if len(languages) == 1 else str(len(languages) or "")
        figures = [_count(rows), _seconds(seconds)]
        lines.append([stage, str(len(tasks)), shown(_listed(methods)), place, *figures, shown(named(why))])
    if lines:
        heads = ("stage", "tasks", "of", "languages", "rows", "about", "why")
        print_explained(heads, lines, console, right=_FIGURES)
    _show_total(planned, console)


def _shards_in_one(planned: Sequence[Task]) -> list[Task]:
    """The tasks of a plan with the shards of a stage, language and subject in one: how many of them would run."""
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for number, task in enumerate(planned):
        whole = without_shard(task["subject"])
        alone = None if is_shard(task["subject"]) else number
        groups.setdefault((task["stage"], task["language"], whole, alone), []).append(task)
    return [tasks[0] if alone is not None else _as_one(tasks, whole) for (*_, whole, alone), tasks in groups.items()]


def _as_one(shards: Sequence[Task], whole: str | None) -> Task:
    waiting = [task for task in shards if task["action"] == "run"]
    reasons = _distinct(waiting, "reason")
    return {
        **(waiting or shards)[0],
        "subject": " · ".join(text for text in (whole, f"{len(shards)} shards") if text),
        "share": f" {len(waiting)} of {len(shards)}",
        "reason": reasons[0] if len(reasons) == 1 else f"{reasons[0]}, and others" if reasons else "",
        **{name: _sum([task[name] for task in waiting]) for name in ("rows_new", "seconds_estimated")},
    }


def _distinct(tasks: Sequence[Task], name: str) -> list[str]:
    return list(dict.fromkeys(task[name] for task in tasks if task[name]))


def _listed(names: Sequence[str]) -> str:
    """Names; of many the first one, and how many others there are."""
    return ", ".join(names) if len(names) <= _SUBJECTS_SHOWN else f"{names[0]}, {len(names) - 1} others"


def _show_total(planned: list[Task], console: Console) -> None:
    to_run = [task for task in planned if task["action"] == "run"]
    known = [task["seconds_estimated"] for task in to_run if task["seconds_estimated"] is not None]
    cached = len(planned) - len(to_run)
    words = f"{len(to_run)} task{'s' * (len(to_run) != 1)} would run, {cached} {'is' if cached == 1 else 'are'} cached"
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
