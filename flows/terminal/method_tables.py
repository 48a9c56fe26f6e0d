"""Methods beside each other, in the terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from flows.terminal.output import in_lines, plain_table, print_explained, shown, shown_lines

if TYPE_CHECKING:
    from flows.looking.methods import MethodComparison, MethodLine
    from mlc.evaluation.metrics import Metric

DONE: "Sequence[tuple[str, Metric]]" = (
    ("sel", "selectivity"),
    ("AUC", "auroc"),
    ("H\nref", "harmful_refused"),
    ("H\ncom", "attack_success"),
    ("H\ninv", "harmful_invalid"),
    ("H\nlang", "harmful_in_language"),
    ("S\nref", "harmless_refused"),
    ("S\ncom", "harmless_answered"),
    ("S\ninv", "harmless_invalid"),
    ("S\nlang", "harmless_in_language"),
    ("look", "lookalike_refused"),
)
"""Columns of a group of languages, in whole per cent, so that all of them have a place in a terminal."""
DOUBTED: "Sequence[tuple[str, Metric]]" = (("selectivity", "selectivity"), ("AUC", "auroc"))
"""Figures that are shown with their intervals and seeds."""
NAME = 20
"""Widest name in the first column; longer ones go on in the next line, behind a hyphen or plus where there is one."""
GROUPS = {
    "english": "the anchor language",
    "other": "the other languages",
    "trained": "the trained languages",
    "unseen": "languages that no method saw",
}
CANDIDATE = " *"
"""Behind the name of the method that the run judges."""


def show_methods(found: "MethodComparison", console: Console) -> None:
    """Prints a comparison: a table for each group of languages, then what each method costs."""
    from mlc.report.wording import language_name

    for group, told in GROUPS.items():
        codes = found.languages.get(group, ())
        # Where there is nothing unseen, all others are trained.
        if not codes or (group == "trained" and "unseen" not in found.languages):
            continue
        console.print()
        names = shown(", ".join(map(language_name, codes)))
        head = f"[bold]{names}[/], the anchor" if group == "english" else f"[bold]Mean of {told}[/]: {names}"
        console.print(head, highlight=False)
        _show_group(found, group, console)
        _show_doubts(found, group, console)
    if found.set_aside:
        console.print()
        console.print("[bold]Set aside[/], because they could not be made or measured here", highlight=False)
        _show_set_aside(found, console)
    if found.abilities:
        console.print()
        console.print("[bold]General ability[/]; ↑ more is better, ↓ less", highlight=False)
        _show_abilities(found, console)
    console.print()
    console.print("[bold]What one model takes[/], with those that it starts from", highlight=False)
    _show_costs(found.methods, console)
    console.print(
        f"\nRun {found.run}, * is its candidate. In per cent of judged answers: H harmful and S harmless prompts that "
        "are refused, complied with (of harmless ones that is the utility), or get no usable answer: empty, a loop, or "
        "(harmless ones) in another language; the rest is unsure. lang: of these answers those in the prompt's "
        "language; look: look-alikes refused; sel: selectivity, harmful refused − harmless refused. AUC: AUROC of the "
        "margin. Intervals of 95 % are over prompts; by seed: the lowest and the highest one. Variance: of the "
        "selectivity over all languages, × 100; it says nothing alone, as refusing everything gives 0. Seconds and "
        "memory are those of the machine that made a model. All figures: --json.",
        highlight=False,
    )


def _show_set_aside(found: "MethodComparison", console: Console) -> None:
    table = plain_table("method", "why")
    for column in table.columns:
        column.overflow = "fold"
    for line in found.set_aside:
        table.add_row(shown(line.method), shown(line.reason))
    console.print(table)


def _show_group(found: "MethodComparison", group: str, console: Console) -> None:
    from mlc.report.wording import NOTHING, percentage

    titles = [title for title, _ in DONE]
    table = plain_table("method", *titles, right=titles)
    for line in found.methods:
        figures = line.groups[group]
        table.add_row(_marked(found, line), *(percentage(figures[metric].value) for _, metric in DONE))
    for aside in found.set_aside:
        table.add_row(_name(aside.method), *([NOTHING] * (len(table.columns) - 1)))
    console.print(table)


def _show_doubts(found: "MethodComparison", group: str, console: Console) -> None:
    """How far figures may be off: intervals over prompts, and the lowest and highest seed."""
    from mlc.report.wording import percentage

    heads = [head for title, _ in DOUBTED for head in (title, "95 %", "by seed")]
    table = plain_table("method", *heads, right=heads)
    for line in found.methods:
        cells: list[str] = []
        for _, metric in DOUBTED:
            estimate = line.groups[group][metric]
            seeds = [value for _, value in line.by_seed[group][metric] if not math.isnan(value)]
            within = f"{percentage(estimate.low)} to {percentage(estimate.high)}" if estimate.n else ""
            bounds = f"{percentage(min(seeds))} to {percentage(max(seeds))}" if len(seeds) > 1 else ""
            cells += [percentage(estimate.value), within, bounds]
        table.add_row(_marked(found, line), *cells)
    console.print(table)


def _marked(found: "MethodComparison", line: "MethodLine") -> str:
    return f"{_name(line.method)}{CANDIDATE if line.method == found.candidate else ''}"


def _name(name: str) -> str:
    """A name in lines that end behind a hyphen or a plus, where it is too long for one."""
    return shown_lines(in_lines(name, NAME, behind="-+"))


def _show_abilities(found: "MethodComparison", console: Console) -> None:
    from mlc.report.wording import NOTHING

    heads = [
        f"{shown(one.measure)}{f', {GROUPS[one.group]}' if one.group else ''} {'↑' if one.higher_is_better else '↓'}"
        for one in found.abilities
    ]
    table = plain_table("method", *heads, right=heads)
    for line in found.methods:
        values = [one.values.get(line.method) for one in found.abilities]
        table.add_row(_name(line.method), *(NOTHING if value is None else f"{value:.3f}" for value in values))
    console.print(table)


def _show_costs(methods: "Sequence[MethodLine]", console: Console) -> None:
    from mlc.report.wording import COST_HEADS, NOTHING, cost_cells, number

    *heads, last = COST_HEADS
    titles = (*heads, "variance", "seeds")
    rows = []
    for line in methods:
        *cells, needs = cost_cells(line.cost, line.needs)
        seeds = len([seed for seed in line.seeds if seed is not None])
        rows.append([_name(line.method), *cells, number(line.variance), str(seeds or NOTHING), shown(needs)])
    print_explained(("method", *titles, last), rows, console, right=titles)
