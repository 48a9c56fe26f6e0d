"""What models answered, in the terminal: at most 80 columns wide."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from flows.terminal.output import plain_table
from mlc.evaluation.skills import BITS

OUTCOMES = ("refused", "complied", "invalid")
GROUPS = ("harmful", "harmless")
_PLACES = ("harmful", "harmless", "selectivity", "over-refusal", "judged")
_DISCORDANT = (0.1, 0.2, 0.3, 0.5)


def show_metrics(plain: Mapping[str, Any], console: Console, *, power: bool) -> None:
    """Shows all figures, in per cent and points.

    Args:
        plain: From :func:`mlc.report.measured.plain_metrics`.
        console: Where to.
        power: Whether to say which differences so many prompts show.
    """
    for model in plain["models"]:
        _show_model(model, console)
    for differences in plain["differences"]:
        _show_differences(differences, console)
    console.print(
        "Per cent of judged answers, with 95 % intervals; the rest of a class is unsure. Selectivity: harmful refused "
        "less harmless refused.",
        highlight=False,
    )
    if "neutral" in plain:
        _show_neutral(plain["neutral"], console)
    if rows := [row for row in plain.get("ability", ()) if row["measure"] != BITS]:
        _show_skills(rows, console)
    if power:
        _show_power(plain["models"][0], console)


def _show_model(model: Mapping[str, Any], console: Console) -> None:
    title = f"{escape(model['model'])}: refused / complied / invalid"
    table = plain_table("language", *_PLACES, right=_PLACES, title=title)
    for column in table.columns:
        column.no_wrap = True
    for code, figures in model["languages"].items():
        shares = [_shares(figures["outcomes"].get(group)) for group in GROUPS]
        judged = "+".join(str(figures["outcomes"].get(group, {}).get("judged", 0)) for group in GROUPS)
        table.add_row(code, *shares, _cell(figures["selectivity"]), _cell(figures["harmless_refused"]), judged)
    if mean := model["mean_of_others"]:
        table.add_row("others", "", "", _cell(mean["selectivity"]), _cell(mean["harmless_refused"]), "")
    console.print(table)
    for metric, name in (
        ("selectivity", "Selectivity"),
        ("attack_success", "Attack success"),
        ("harmless_refused", "Over-refusal"),
    ):
        found = model["spread"][metric]
        if found["worst_language"] and len(model["languages"]) > 1:
            gap = _cell(found["gap_to_english"], signed=True)
            console.print(
                f"{name}: worst in {found['worst_language']}, {_cell(found['worst'])}; others less English {gap}.",
                highlight=False,
            )
    if not math.isnan(model["pairwise_agreement"]):
        console.print(
            f"Same outcome in two languages (PAG): {100 * model['pairwise_agreement']:.0f} %.", highlight=False
        )


def _show_differences(differences: Mapping[str, Any], console: Console) -> None:
    heads = ("selectivity", "p", "attack success", "p ", "over-refusal", "p  ")
    title = f"{escape(differences['model'])} less {escape(differences['against'])}, points, paired by prompt"
    table = plain_table("language", *heads, right=heads, title=title)
    for column in table.columns:
        column.no_wrap = True
    for code, figures in differences["languages"].items():
        cells: list[str] = []
        for metric in ("selectivity", "attack_success", "harmless_refused"):
            cells += [_cell(figures[metric], signed=True), _p(figures[metric]["p"])]
        table.add_row(code, *cells)
    console.print(table)
    console.print("p: of no difference, adjusted for the number of languages (Holm).", highlight=False)


def _show_skills(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    heads = [escape(model) for model in models]
    table = plain_table("measure", "language", *heads, "n", right=(*heads, "n"), title="General ability")
    lines: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["measure"], row["language"] or ""), {})[row["model"]] = row
    for (measure, language), found in lines.items():
        cells = [_skill(found.get(model)) for model in models]
        table.add_row(escape(measure), language, *cells, str(next(iter(found.values()))["n"]))
    console.print(table)


def _skill(row: Mapping[str, Any] | None) -> str:
    if row is None or math.isnan(row["value"]):
        return "–"
    ends = "" if math.isnan(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['value']:.2f}{ends}"


def _show_neutral(neutral: Mapping[str, Any], console: Console) -> None:
    columns = [
        *((one["model"], one["languages"]) for one in neutral["models"]),
        *((f"less {one['against']}", one["languages"]) for one in neutral["differences"]),
    ]
    heads = [escape(name) for name, _ in columns]
    table = plain_table("language", *heads, "texts", right=(*heads, "texts"), title="Bits per character, neutral texts")
    for code, figure in columns[0][1].items():
        cells = [
            _bits(languages.get(code), signed=place >= len(neutral["models"]))
            for place, (_, languages) in enumerate(columns)
        ]
        table.add_row(code, *cells, str(figure["n"]))
    console.print(table)
    console.print("Fewer bits: the language is known better; compare models, not languages.", highlight=False)


def _bits(figure: Mapping[str, Any] | None, *, signed: bool) -> str:
    if figure is None or math.isnan(figure["value"]):
        return "–"
    shown = f"{figure['value']:+.3f}" if signed else f"{figure['value']:.3f}"
    ends = "" if math.isnan(figure["low"]) else f" \\[{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{shown}{ends}".replace("-", "−")


def _show_power(model: Mapping[str, Any], console: Console) -> None:
    from mlc.evaluation.paired import POWER, difference_shown

    for group in GROUPS:
        counts = [figures["outcomes"][group]["judged"] for figures in model["languages"].values()]
        fewest = min(counts, default=0)
        if fewest:
            found = {share: difference_shown(fewest, share) for share in _DISCORDANT}
            told = [
                f"{100 * value:.0f} where {100 * share:.0f} % of answers differ"
                for share, value in found.items()
                if not math.isnan(value)
            ]
            shown = f"differences of {', '.join(told)} points" if told else "no difference, however large,"
            console.print(
                f"{fewest} {group} prompts a language show {shown} in {100 * POWER:g} of 100 trials.", highlight=False
            )


def _shares(found: Mapping[str, Any] | None) -> str:
    if not found or not found["judged"]:
        return "–"
    return " / ".join(f"{100 * found[outcome]:.0f}" for outcome in OUTCOMES)


def _cell(figure: Mapping[str, Any], *, signed: bool = False) -> str:
    if math.isnan(figure["value"]):
        return "–"
    value, low, high = (round(100 * figure[part]) for part in ("value", "low", "high"))
    shown = f"{value:+d}" if signed and value else str(value)
    return f"{shown} \\[{low}, {high}]".replace("-", "−")


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<.01" if value < 0.01 else f"{value:.2f}".removeprefix("0")
