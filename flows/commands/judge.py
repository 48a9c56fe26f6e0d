"""Judges by themselves: a table of answers in, the same with outcomes out, counts in the terminal. No text is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.terminal.display import new_progress
from flows.terminal.options import CellsOption, JsonOption
from flows.terminal.output import plain_table, print_json, results, terminal
from mlc.choices import words_of

if TYPE_CHECKING:
    from mlc.evaluation.judging import Judged

DEFAULT = "rules"
"""The judge, if none is named."""


def command(
    file: Annotated[
        str,
        typer.Argument(help="A table with the columns prompt, answer, language: a file, hf:owner/name, or a URL."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; the ending names the format.")],
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", "-j", help="rules, openings, or your own as module:object; several: rules,openings."),
    ] = None,
    as_json: JsonOption = False,
    cells: CellsOption = False,
) -> None:
    """Judge answers: refused, complied, invalid or unsure. Two judges: how far they agree.

    Example: mlc judge answers.jsonl --judge rules --out judged.jsonl
    """
    from mlc.catalogue import JUDGES
    from mlc.evaluation.judging import judge_file

    chosen = {name: JUDGES.load(name) for name in words_of(judges or ()) or [DEFAULT]}
    with new_progress(terminal) as bars:
        task = bars.add_task("judged", total=None)
        judged = judge_file(file, out, chosen, cells=cells, on_progress=lambda rows: bars.advance(task, rows))
    if as_json:
        print_json(_told(judged))
    else:
        _show(judged, out, results)


def _told(judged: "Judged") -> dict[str, object]:
    outcomes = {
        name: [{"language": code, "outcome": outcome, "rows": count} for (code, outcome), count in sorted(told.items())]
        for name, told in judged.outcomes.items()
    }
    agreement = [
        {
            "judges": list(pair),
            "rows": sum(judged.pairs[pair].values()),
            "kappa": judged.kappa(*pair),
            "disagreements": judged.disagreements(*pair),
        }
        for pair in judged.pairs
    ]
    return {"rows": judged.rows, "outcomes": outcomes, "problems": dict(judged.problems), "agreement": agreement}


def _show(judged: "Judged", out: Path, console: Console) -> None:
    from mlc.evaluation.judges.judge import OUTCOMES
    from mlc.evaluation.judging import AGREE, NOT_JUDGED

    for name, told in judged.outcomes.items():
        columns = (*OUTCOMES, NOT_JUDGED)
        table = plain_table(escape(name), *columns, right=columns)
        for code in sorted({code for code, _ in told}):
            counts = [told[code, outcome] for outcome in columns]
            table.add_row(code, *(f"{count:,}" if count else "" for count in counts))
        console.print(table)
    for problem, count in judged.problems.most_common():
        console.print(f"{_rows(count)} cannot be judged: {escape(problem)}.", highlight=False, soft_wrap=True)
    for one, other in judged.pairs:
        kappa = judged.kappa(one, other)
        both = sum(judged.pairs[one, other].values())
        console.print(
            f"{escape(one)} and {escape(other)}: Cohen's κ {'not defined' if kappa is None else f'{kappa:.2f}'}, "
            f"{judged.disagreements(one, other):,} of {_rows(both)} judged differently (column {AGREE}).",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"{_rows(judged.rows)}. Verdicts: {escape(str(out))}", highlight=False, soft_wrap=True)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
