"""The comparison of layers in the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.terminal.output import shown
from mlc.evaluation.layers import LayerFigures, Recommendation, Sweep
from mlc.evaluation.parallel import ParallelPrompts
from mlc.languages import ENGLISH
from mlc.prompts import LABELS
from mlc.report.layer_files import FILES, retrieval_chance, settings_of
from mlc.report.wording import count, interval, language_name, number

CAVEAT = (
    "A heuristic from forward passes of the model as it is: it shows where the languages meet, not that training there "
    "carries refusal over."
)
_WIDE = 90
"""From so many columns on, a terminal has room for wider gaps."""


def show_sweep(
    sweep: Sweep, prompts: ParallelPrompts, notes: Sequence[str], model: str, folder: Path, console: Console
) -> None:
    """Prints what a sweep over layers found.

    Args:
        sweep: The figures.
        prompts: What the layers were measured on.
        notes: What a person should know of them.
        model: The model, as a person named it.
        folder: Where the files lie.
        console: Where to print.
    """

    def say(text: str = "") -> None:
        console.print(text, highlight=False)

    choice = sweep.recommended
    labels = {label: prompts.labels.count(label) for label in LABELS}
    mix = f" ({labels['harmful']} harmful, {labels['harmless']} harmless)" if any(labels.values()) else ""
    names = ", ".join(language_name(code) for code in prompts.languages if code != ENGLISH)
    say(f"{escape(model)}: {sweep.depth} layers; {count(len(prompts.ids), 'prompt')}{mix} in English and {names}")
    chances = f"retrieval {number(retrieval_chance(prompts))}, collinearity about {number(1 / len(prompts.languages))}"
    say(f"Chance: {chances}{', separation .50' if sweep.figures[0].separation.n else ''}.")
    say()
    say(f"[bold]Pooling {choice.pool}[/], by layer")
    console.print(_layer_table([one for one in sweep.figures if one.pool == choice.pool], choice, console.width))
    say()
    say(f"[bold]Layer {choice.layer}, pooling {choice.pool}[/], by language")
    console.print(_language_table(sweep.at(choice)))
    if len(sweep.by_pool) > 1:
        say()
        say("[bold]The same rule within each pooling[/]")
        console.print(_pool_table(sweep))
    say()
    say(f"[bold green]Recommended: layer {choice.layer} of {sweep.depth}, pooling {choice.pool}[/]")
    say(f"Rule: {choice.rule}.")
    say(f"The term then computes {choice.layer} of {sweep.depth} layers ({100 * choice.share:.0f} %).")
    say("  " + " ".join(f"--set {key}={value}" for key, value in settings_of(choice).items()))
    for note in notes:
        say(f"[yellow]![/] {escape(note)}")
    say(CAVEAT)
    console.print(f"Written: {shown(folder)}/ ({', '.join(FILES)})", highlight=False, soft_wrap=True)


def _table(*columns: str, gap: int = 2) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _layer_table(rows: Sequence[LayerFigures], choice: Recommendation, width: int) -> Table:
    labelled = bool(rows[0].separation.n)
    columns = ("\nlayer", "collin.\nraw", "\ncentred", "cosine\nsame", "\nother", "\nretrieval")
    separation = ("separation\nEnglish", "\nothers") if labelled else ()
    table = _table(*columns, *separation, gap=2 if width >= _WIDE else 1)
    for one in rows:
        cells = [number(one.collinearity), number(one.centred_collinearity), number(one.matched), number(one.unmatched)]
        figures = (one.retrieval, one.separation) if labelled else (one.retrieval,)
        cells += [f"{number(figure.value)} {interval(figure)}" for figure in figures]
        cells += [number(one.transfer.value)] if labelled else []
        chosen = one.layer == choice.layer
        table.add_row(f"{'→ ' if chosen else ''}{one.layer}", *cells, style="bold green" if chosen else None)
    return table


def _language_table(figures: LayerFigures) -> Table:
    labelled = bool(figures.separation.n)
    table = _table(
        "\nlanguage", "\nprompts", "cosine\nsame", "\nother", "\nretrieval", *(["\nseparation"] if labelled else [])
    )
    table.columns[0].justify = "left"
    for one in figures.languages:
        cells = [number(value) for value in (one.matched, one.unmatched, one.retrieval, one.transfer)]
        table.add_row(language_name(one.language), str(one.prompts), *cells[: 3 + labelled])
    return table


def _pool_table(sweep: Sweep) -> Table:
    labelled = bool(sweep.figures[0].separation.n)
    table = _table("\npooling", "\nlayer", "\nretrieval", *(["separation\nEnglish", "\nothers"] if labelled else []))
    table.columns[0].justify = "left"
    for pool, choice in sweep.by_pool.items():
        one = sweep.at(choice)
        cells = [number(value) for value in (one.retrieval.value, one.separation.value, one.transfer.value)]
        table.add_row(pool, str(one.layer), *cells[: 1 + 2 * labelled])
    return table
