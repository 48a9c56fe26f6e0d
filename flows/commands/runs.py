"""`mlc runs`: the runs of a workspace, as a table of figures."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.terminal.options import JsonOption, WorkspaceOption, existing
from flows.terminal.output import fitted_table, print_json, results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.looking.figures import RunLine

SHOWN_RUNS = 20
STARTED = "started, UTC"
EXAMPLES = (
    "mlc runs",
    "mlc runs --limit 5 --json",
)


def command(
    workspace: WorkspaceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at most, the last ones.")] = SHOWN_RUNS,
    as_json: JsonOption = False,
) -> None:
    """List the runs of a workspace with their figures."""
    from flows.looking.figures import run_lines
    from mlc.store import ArtifactStore

    lines = run_lines(ArtifactStore(existing(workspace), looking=True), limit)
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        show_runs(lines, results)


def show_runs(lines: "Sequence[RunLine]", console: Console) -> None:
    """Prints runs, one line each."""
    from mlc.languages import resolve_language
    from mlc.report.wording import number

    figures = ("mean", "worst", "over-refusal", "version")
    rows = []
    for line in lines:
        end = f"gate {line.gate}" if line.state == "completed" and line.gate else line.state
        tag = resolve_language(line.worst_language).bcp47 if line.worst_language else ""
        cells = (
            str(line.run),
            line.started[:16].replace("T", " "),
            end,
            line.candidate or "–",
            number(line.selectivity),
            f"{number(line.worst_selectivity)} {tag}".strip(),
            number(line.over_refusal),
            line.version or "–",
        )
        rows.append(cells)
    if lines:
        heads = ("run", STARTED, "end", "candidate", *figures)
        console.print(
            fitted_table(heads, rows, console.width, right=("run", "mean", *figures[2:]), whole=(STARTED, "worst"))
        )
        console.print(
            "Mean and worst: selectivity of the candidate over its languages, English included. Over-refusal: harmless "
            "prompts that it refuses.",
            highlight=False,
        )
    else:
        console.print("No run is recorded.")
