"""`mlc power`: how many prompts show a difference between two models."""

import math
from typing import Annotated

import typer
from rich.console import Console

from flows.terminal.options import JsonOption
from flows.terminal.output import plain_table, print_json, results
from mlc.choices import words_of
from mlc.errors import UserError

DIFFERENCES = ("3", "5", "10", "15", "20", "30")
"""Points, if none are given."""
DISCORDANT = (0.1, 0.2, 0.3, 0.5)
"""Shares of prompts on which two models differ, if none is given."""
EXAMPLES = (
    "mlc power 5 10 --differ 30",
    "mlc power --prompts 200",
)


def command(
    points: Annotated[
        list[str] | None, typer.Argument(help="Differences in points of 100, such as 5 10; several usual ones.")
    ] = None,
    differ: Annotated[
        float | None, typer.Option(help="Percent of prompts that only one of the models refuses; several usual ones.")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Also say which difference so many prompts would show.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="Percent of the trials in which the difference shall be shown; 80.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many prompts show a difference of two models.

    Of two models that answer the same prompts (McNemar's test).
    """
    from mlc.evaluation.paired import POWER, difference_shown, prompts_needed

    differences = [_share(word, "difference") for word in words_of(points or DIFFERENCES)]
    discordant = DISCORDANT if differ is None else (_share(differ, "share of prompts"),)
    chance = POWER if power is None else _share(power, "power", below=True)
    needed = [
        {
            "difference": difference,
            "differ": share,
            # A difference of 5 points needs 5 % of the prompts to differ.
            "prompts": prompts_needed(difference, share, chance) if difference <= share else None,
        }
        for difference in differences
        for share in discordant
    ]
    found = {share: difference_shown(prompts, share, chance) for share in discordant} if prompts else {}
    if as_json:
        shown = [{"differ": share, "prompts": prompts, "difference": value} for share, value in found.items()]
        print_json({"power": chance, "needed": needed, "shown": shown})
        return
    heads = [f"{100 * share:g} % differ" for share in discordant]
    table = plain_table("points", *heads, right=("points", *heads))
    for difference in differences:
        row = [cell["prompts"] for cell in needed if cell["difference"] == difference]
        table.add_row(f"{100 * difference:g}", *("–" if number is None else f"{number:,}" for number in row))
    if found:
        values = ("–" if math.isnan(value) else f"{100 * value:.1f} points" for value in found.values())
        table.add_row(f"{prompts:,} prompts", *values)
    _show(table, chance, results)


def _share(percent: str | float, what: str, *, below: bool = False) -> float:
    try:
        value = float(percent) / 100
    except ValueError:
        value = math.nan
    if not 0 < value <= 1 or (below and value == 1):
        raise UserError(
            f"The {what} {str(percent)!r} is not a number above 0 and {'below' if below else 'at most'} 100: "
            "give percent, such as 30."
        )
    return value


def _show(table: object, chance: float, console: Console) -> None:
    console.print(table)
    console.print(
        f"Prompts of one class that both models answer in one language, to show the difference in {100 * chance:g} of "
        "100 trials at 95 % confidence. Columns: prompts that only one of the models refuses.",
        highlight=False,
    )
