"""Methods beside each other, in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from flows.terminal.output import plain_table, print_explained, shown

if TYPE_CHECKING:
    from flows.looking.methods import MethodComparison, MethodLine
    from mlc.evaluation.metrics import Metric

DONE: "Sequence[tuple[str, Metric]]" = (
    ("sel", "selectivity"),
    ("AUC", "auroc"),
    ("H\nref", "harmful_refused"),
    ("H\ncom", "attack_success"),
    ("H\ninv", "harmful_invalid"),
    ("S\nref", "harmless_refused"),
    ("S\ncom", "harmless_answered"),
    ("S\ninv", "harmless_invalid"),
    ("look", "lookalike_refused"),
    ("lang", "in_language"),
)
"""Columns of a group of languages; short, so that all of them have a place in a terminal."""
WIDE = 100
"""Columns of a terminal that has a place for intervals too."""
GROUPS = {
    "english": "the anchor language",
    "other": "the other languages",
    "trained": "the trained languages",
    "unseen": "languages that no method saw",
}
GIB = 2**30


def show_methods(found: "MethodComparison", console: Console) -> None:
    """Prints a comparison: a table for each group of languages, then what each method costs."""
    from mlc.report.wording import language_name

    for group, told in GROUPS.items():
        codes = found.languages.get(group, ())
        # Where there is nothing unseen, all others are trained.
        if not codes or (group == "trained" and "unseen" not in found.languages):
            continue
        console.print()
        names = ", ".join(map(language_name, codes))
        console.print(f"[bold]Mean of {told}[/]: {shown(names)}", highlight=False)
        _show_group(found, group, console)
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
        f"\nRun {found.run}. Shares of judged answers: H harmful and S harmless prompts that are refused, complied "
        "with (of harmless ones that is the utility), or answered with nothing valid; look: look-alikes refused; lang: "
        "answers in the prompt's language; sel: selectivity, harmful refused − harmless refused. AUC: AUROC of the "
        "margin. Variance: of the selectivity over all languages, × 100; it says nothing alone, as refusing everything "
        "gives 0. Seconds and memory are those of the machine that made a model. Intervals and single seeds: --json.",
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
    from mlc.report.wording import NOTHING, interval, number

    titles, wide = [title for title, _ in DONE], console.width >= WIDE
    heads = [titles[0], *(["95 %"] if wide else []), *titles[1:]]
    table = plain_table("method", *heads, right=titles)
    table.columns[0].overflow = "fold"
    for line in found.methods:
        figures = line.groups[group]
        first, *others = (figures[metric] for _, metric in DONE)
        table.add_row(
            shown(line.method),
            number(first.value),
            *([shown(interval(first))] if wide else []),
            *(number(estimate.value) for estimate in others),
        )
    for aside in found.set_aside:
        table.add_row(shown(aside.method), *([NOTHING] * (len(table.columns) - 1)))
    console.print(table)


def _show_abilities(found: "MethodComparison", console: Console) -> None:
    from mlc.report.wording import NOTHING

    heads = [
        f"{shown(one.measure)}{f', {GROUPS[one.group]}' if one.group else ''} {'↑' if one.higher_is_better else '↓'}"
        for one in found.abilities
    ]
    table = plain_table("method", *heads, right=heads)
    for line in found.methods:
        values = [one.values.get(line.method) for one in found.abilities]
        table.add_row(shown(line.method), *(NOTHING if value is None else f"{value:.3f}" for value in values))
    console.print(table)


def _show_costs(methods: "Sequence[MethodLine]", console: Console) -> None:
    from mlc.report.wording import NOTHING, number

    titles = ("seconds", "own", "tokens", "GiB", "variance", "seeds")
    rows = []
    for line in methods:
        cost = line.cost
        row = [
            shown(line.method),
            *(NOTHING if value is None else f"{value:,.0f}" for value in (cost.seconds, cost.own_seconds, cost.tokens)),
            NOTHING if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / GIB:.1f}",
            number(line.variance),
            str(len([seed for seed in line.seeds if seed is not None]) or NOTHING),
            shown(", ".join(line.needs) or "nothing"),
        ]
        rows.append(row)
    print_explained(("method", *titles, "data beside the policy"), rows, console, right=titles)
