"""`mlc look`: what a file is understood as, before it is used."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.terminal.options import load
from flows.terminal.output import print_json, results
from mlc.choices import Format

if TYPE_CHECKING:
    from mlc.shapes.overview import Overview
EXAMPLES = (
    "mlc look prompts.csv",
    "mlc look prompts.jsonl --config own.yaml",
    "mlc look shards/ --set 'prompts.columns={prompt: goal}'",
)


def command(
    file: Annotated[str, typer.Argument(help="A table, a folder or pattern of shards, hf:owner/name, or a URL.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Configuration whose columns, labels and held-out prompts count."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="A setting, such as prompts.columns={prompt: goal}; may be repeated."),
    ] = None,
    read_as: Annotated[
        Format | None, typer.Option("--input-format", help="By the ending of the file if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead.")] = False,
) -> None:
    """Show what a file is understood as; no text is shown.

    Shape, columns, rows, labels, duplicates.
    """
    from mlc.evaluation.suite import held_out_prompts
    from mlc.shapes.overview import look_at

    chosen = load(config or "quickstart", settings=settings) if config is not None or settings else None
    seen = look_at(
        file,
        format=read_as,
        columns=chosen.prompts.columns if chosen else None,
        labels=chosen.prompts.labels if chosen else None,
        held_out=held_out_prompts(chosen.evaluation, Path.cwd()) if chosen and config is not None else None,
    )
    if as_json:
        print_json(asdict(seen))
    else:
        _show(seen, results)


def _show(seen: "Overview", console: Console) -> None:
    counts = seen.set_aside.items()
    lines = {
        "file": seen.location,
        "format": seen.format,
        "shape": seen.shape or "unknown",
        "columns": ", ".join(f"{role} = {name}" for role, name in seen.columns.items()) or "none taken",
        "others": ", ".join(seen.other_columns),
        "rows": f"{seen.rows:,}, {seen.usable:,} of them usable",
        "set aside": ", ".join(f"{count:,} × {reason}" for reason, count in counts),
        "turns": f"{seen.with_turns:,} prompts with a system prompt or earlier turns" if seen.with_turns else "",
        "labels": _counted(seen.labels),
        "languages": _counted(seen.languages),
        "duplicates": f"{seen.repeated:,} word for word, {seen.repeated_nearly:,} but for capitals and marks, "
        f"{seen.alike:,} nearly",
        "held-out": "" if seen.held_out is None else f"{_counted(seen.held_out)} prompts are held-out ones",
        "first ids": ", ".join(seen.ids),
    }
    for name, words in lines.items():
        if words:
            console.print(f"[bold]{name:11}[/]{escape(_on_one_line(words))}", highlight=False, soft_wrap=True)
    for hint in seen.hints:
        console.print(escape(_on_one_line(f"! {hint}")), highlight=False, soft_wrap=True)


def _on_one_line(words: str) -> str:
    """Words whose line breaks and controls are written as in Python: ids of a table may hold any."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
