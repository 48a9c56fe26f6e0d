"""Judges by themselves: a table of answers in, the same with outcomes out, counts in the terminal. No text is shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.terminal import completion
from flows.terminal.display import new_progress
from flows.terminal.options import CellsOption, JsonOption, judge_entries
from flows.terminal.output import plain_table, print_json, results, terminal
from mlc.choices import words_of

if TYPE_CHECKING:
    from mlc.evaluation.judging import Judged

DEFAULT = "rules"
"""The judge, if none is named."""
EXAMPLES = (
    "mlc judge answers.jsonl --judge rules --out judged.jsonl",
    "mlc judge answers.jsonl --judge rules,openings --out judged.jsonl",
)


def command(
    file: Annotated[
        str,
        typer.Argument(help="A table with the columns prompt, answer, language: a file, hf:owner/name, or a URL."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; the ending names the format.")],
    judges: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            "-j",
            help="rules, openings, llm, a guard, or your own as module:object; several: rules,openings.",
            autocompletion=completion.judges,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of a judge that asks one.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Address of the server that runs it, such as http://127.0.0.1:8000/v1.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A setting of that judge, such as strict=false; repeatable.")
    ] = None,
    as_json: JsonOption = False,
    cells: CellsOption = False,
) -> None:
    """Judge answers: refused, complied, invalid or unsure.

    Two judges: how far they agree. What models say is kept in the folder OUT.replies, so that nothing is asked twice.
    """
    from flows.configuration.overrides import parse_overrides
    from mlc.evaluation.choosing import Surroundings, choose
    from mlc.evaluation.judging import judge_file

    given = {"model": model, "endpoint": endpoint, **parse_overrides(settings or ())}
    entries = judge_entries(
        words_of(judges or ()) or [DEFAULT], {name: value for name, value in given.items() if value is not None}
    )
    surroundings = Surroundings(out.with_name(f"{out.name}.replies"))
    chosen = {one.label: one.judge for one in choose(entries, surroundings)}
    with new_progress(terminal) as bars:
        task = bars.add_task("judged", total=None)
        judged = judge_file(file, out, chosen, cells=cells, on_progress=lambda rows: bars.advance(task, rows))
    found = {name: getattr(judge, "usage", None) for name, judge in chosen.items()}
    usage = {name: vars(used) for name, used in found.items() if used}
    if as_json:
        print_json({**_told(judged), "usage": usage})
    else:
        _show(judged, usage, out, results)


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
    return {
        "rows": judged.rows,
        "outcomes": outcomes,
        "problems": dict(judged.problems),
        "unreadable": dict(judged.unreadable),
        "agreement": agreement,
    }


def _show(judged: "Judged", usage: Mapping[str, Mapping[str, int]], out: Path, console: Console) -> None:
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
    for name, count in judged.unreadable.items():
        if count:
            console.print(
                f"{escape(name)} said nothing that can be read about {_rows(count)}: counted as unsure.",
                highlight=False,
                soft_wrap=True,
            )
    for name, used in usage.items():
        console.print(
            f"{escape(name)}: {used['requests']:,} requests, {used['prompt_tokens']:,} tokens read and "
            f"{used['tokens']:,} written.",
            highlight=False,
            soft_wrap=True,
        )
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
