"""Two runs beside each other, in the terminal."""

import json
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
    both = zip(found.runs, found.candidates, found.gates, found.versions, strict=True)
    told = " with ".join(
        f"run {number} ({_in_words(candidate, gate, version)})" for number, candidate, gate, version in both
    )
    console.print(f"[bold]{shown(told[0].upper() + told[1:])}[/]", highlight=False, soft_wrap=True)
    _show_settings(found.settings, found.runs, console)
    for words, codes in (("gained", found.gained), ("lost", found.lost)):
        if codes:
            names = ", ".join(map(language_name, codes))
            console.print(f"\nLanguages {words} in run {second}: {shown(names)}.", highlight=False)
    for note in found.notes:
        console.print(f"\n[yellow]![/] {shown(note)}", highlight=False, soft_wrap=True)
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
    console.print(f"\nSettings, run {runs[0]} → run {runs[1]}:", highlight=False)
    for change in changes:
        values = " → ".join(_short(value) for value in (change.before, change.after))
        console.print(f"  [bold]{shown(change.key)}[/]  {shown(values)}", highlight=False, soft_wrap=True)


def _in_words(candidate: str, gate: str | None, version: str | None) -> str:
    told = (candidate, f"gate {gate}" if gate else None, f"version {version}" if version else None)
    return ", ".join(filter(None, told))


def _short(value: str | None) -> str:
    if value is None:
        return "–"
    held = json.loads(value)
    if isinstance(held, list) and len(value) > SHOWN_LETTERS:
        return f"{len(held)} entries"
    return value if len(value) <= SHOWN_LETTERS else f"{value[: SHOWN_LETTERS - 1]}…"


def _better(metric: "Metric") -> str:
    from mlc.evaluation.metrics import LOWER_IS_BETTER

    return "lower is better" if metric in LOWER_IS_BETTER else "higher is better"


def _show_figures(
    metric: "Metric", figures: "Mapping[str, LanguageFigures]", runs: tuple[str, str], console: Console
) -> None:
    from mlc.report.wording import chance, difference, language_name, number

    table = plain_table("language", *runs, "difference", "p", "prompts", right=(*runs, "p", "prompts"))
    for code, own in figures.items():
        change = own.change
        table.add_row(
            shown(language_name(code)),
            *(number(estimate.value) for estimate in (own.before, own.after)),
            shown(difference(change.estimate)),
            chance(change.p),
            str(change.estimate.n),
            style=_STYLES[own.tone(metric)],
        )
    console.print(table)
