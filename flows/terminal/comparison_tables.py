"""Two runs beside each other, in the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from flows.terminal.output import plain_table, shown

if TYPE_CHECKING:
    from flows.looking.comparing import Comparison, LanguageFigures, SettingChange
    from mlc.evaluation.metrics import Metric

SHOWN_LETTERS = 60
"""Of a value of a setting."""
_STYLES = {"better": "green", "worse": "red", None: None}


def show_comparison(found: "Comparison", console: Console) -> None:
    """Prints a comparison."""
    from mlc.report.wording import difference, language_name, metric_name

    first, second = found.runs
    both = zip(found.runs, found.candidates, strict=True)
    told = " with ".join(f"run {number} ({candidate})" for number, candidate in both)
    console.print(f"[bold]{shown(told[0].upper() + told[1:])}[/]", highlight=False)
    _show_settings(found.settings, found.runs, console)
    for words, codes in (("gained", found.gained), ("lost", found.lost)):
        if codes:
            names = ", ".join(map(language_name, codes))
            console.print(f"\nLanguages {words} in run {second}: {shown(names)}.", highlight=False)
    for note in found.notes:
        console.print(f"\n[yellow]![/] {shown(note)}", highlight=False)
    for metric, figures in found.figures.items():
        console.print()
        console.print(f"[bold]{metric_name(metric, found.anchor)}[/], {_better(metric)}", highlight=False)
        _show_figures(metric, figures, (f"run {first}", f"run {second}"), console)
        console.print(f"Mean of the languages: {difference(found.mean[metric])}", highlight=False)
    console.print(
        f"\nDifferences are run {second} minus run {first} on the same prompts, with 95 % intervals; p is adjusted for "
        "the number of languages (Holm).",
        highlight=False,
    )


def _show_settings(changes: "Sequence[SettingChange]", runs: tuple[int, int], console: Console) -> None:
    if not changes:
        console.print("\nThe settings are the same.")
        return
    table = plain_table("setting", *(f"run {number}" for number in runs))
    for column in table.columns:
        column.overflow = "fold"
    for change in changes:
        table.add_row(shown(change.key), *(shown(_short(value)) for value in (change.before, change.after)))
    console.print()
    console.print(table)


def _short(value: str | None) -> str:
    if value is None:
        return "–"
    return value if len(value) <= SHOWN_LETTERS else f"{value[: SHOWN_LETTERS - 1]}…"


def _better(metric: "Metric") -> str:
    from mlc.evaluation.metrics import LOWER_IS_BETTER

    return "lower is better" if metric in LOWER_IS_BETTER else "higher is better"


def _show_figures(
    metric: "Metric", figures: "Mapping[str, LanguageFigures]", runs: tuple[str, str], console: Console
) -> None:
    from mlc.report.wording import difference, language_name, number

    table = plain_table("language", *runs, "difference", "p", "prompts", right=(*runs, "p", "prompts"))
    for code, own in figures.items():
        change = own.change
        table.add_row(
            shown(language_name(code)),
            *(number(estimate.value) for estimate in (own.before, own.after)),
            shown(difference(change.estimate)),
            number(change.p, 3),
            str(change.estimate.n),
            style=_STYLES[own.tone(metric)],
        )
    console.print(table)
