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
_PARTS = ("value", "low", "high")
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
    from mlc.report.wording import language_name, percent

    title = f"{escape(model['model'])}: refused / complied / invalid"
    table = plain_table("language", *_PLACES, right=_PLACES, title=title)
    for column in table.columns[1:]:
        column.no_wrap = True
    for code, figures in model["languages"].items():
        shares = [_shares(figures["outcomes"].get(group)) for group in GROUPS]
        judged = "+".join(str(figures["outcomes"].get(group, {}).get("judged", 0)) for group in GROUPS)
        table.add_row(
            language_name(code), *shares, _cell(figures["selectivity"]), _cell(figures["harmless_refused"]), judged
        )
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
            worst = f"{language_name(found['worst_language'])}, {_cell(found['worst'])}"
            console.print(f"{name}: worst in {worst}; others less English {gap}.", highlight=False)
    if not math.isnan(model["pairwise_agreement"]):
        agreement = percent(model["pairwise_agreement"])
        console.print(f"Same outcome in two languages (PAG): {agreement}.", highlight=False)


def _show_differences(differences: Mapping[str, Any], console: Console) -> None:
    from mlc.report.wording import language_name

    heads = ("selectivity", "p", "attack success", "p ", "over-refusal", "p  ")
    title = f"{escape(differences['model'])} less {escape(differences['against'])}, points, paired by prompt"
    table = plain_table("language", *heads, right=heads, title=title)
    for column in table.columns[1:]:
        column.no_wrap = True
    for code, figures in differences["languages"].items():
        cells: list[str] = []
        for metric in ("selectivity", "attack_success", "harmless_refused"):
            cells += [_cell(figures[metric], signed=True), _p(figures[metric]["p"])]
        table.add_row(language_name(code), *cells)
    console.print(table)
    console.print("p: of no difference, adjusted for the number of languages (Holm).", highlight=False)


def _show_skills(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    from mlc.report.wording import language_name

    models = list(dict.fromkeys(row["model"] for row in rows))
    heads = [escape(model) for model in models]
    table = plain_table("measure", "language", *heads, "n", right=(*heads, "n"), title="General ability")
    lines: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["measure"], row["language"] or ""), {})[row["model"]] = row
    for (measure, language), found in lines.items():
        cells = [_skill(found.get(model)) for model in models]
        table.add_row(escape(measure), language_name(language), *cells, str(next(iter(found.values()))["n"]))
    console.print(table)


def _skill(row: Mapping[str, Any] | None) -> str:
    from mlc.report.wording import decimals

    if row is None or math.isnan(row["value"]):
        return "–"
    value, low, high = (decimals(row[part], 2) if math.isfinite(row[part]) else "" for part in _PARTS)
    return f"{value} \\[{low}, {high}]" if low else value


def _show_neutral(neutral: Mapping[str, Any], console: Console) -> None:
    from mlc.report.wording import language_name

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
        table.add_row(language_name(code), *cells, str(figure["n"]))
    console.print(table)
    console.print("Fewer bits: the language is known better; compare models, not languages.", highlight=False)


def _bits(figure: Mapping[str, Any] | None, *, signed: bool) -> str:
    if figure is None or math.isnan(figure["value"]):
        return "–"
    from mlc.report.wording import decimals

    value, low, high = (decimals(figure[part], 3) if math.isfinite(figure[part]) else "" for part in _PARTS)
    plus = "+" if signed and figure["value"] >= 0 else ""
    return f"{plus}{value} \\[{low}, {high}]" if low else f"{plus}{value}"


def _show_power(model: Mapping[str, Any], console: Console) -> None:
    from mlc.evaluation.paired import POWER, difference_shown
    from mlc.report.wording import percent, percentage

    for group in GROUPS:
        counts = [figures["outcomes"][group]["judged"] for figures in model["languages"].values()]
        fewest = min(counts, default=0)
        if fewest:
            found = {share: difference_shown(fewest, share) for share in _DISCORDANT}
            told = [
                f"{percentage(value)} where {percent(share)} of answers differ"
                for share, value in found.items()
                if not math.isnan(value)
            ]
            shown = f"differences of {', '.join(told)} points" if told else "no difference, however large,"
            console.print(
                f"{fewest} {group} prompts a language show {shown} in {100 * POWER:g} of 100 trials.", highlight=False
            )


def _shares(found: Mapping[str, Any] | None) -> str:
    from mlc.report.wording import percentage

    if not found or not found["judged"]:
        return "–"
    return " / ".join(percentage(found[outcome]) for outcome in OUTCOMES)


def _cell(figure: Mapping[str, Any], *, signed: bool = False) -> str:
    from mlc.report.wording import percentage

    value, low, high = (percentage(figure[part]) for part in _PARTS)
    plus = "+" if signed and figure["value"] > 0 and value != "0" else ""
    return value if math.isnan(figure["value"]) else f"{plus}{value} \\[{low}, {high}]"


def _p(value: float) -> str:
    from mlc.report.wording import number

    return "<.01" if value < 0.01 else number(value)
