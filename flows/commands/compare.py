"""`mlc compare`: two runs beside each other."""

from dataclasses import asdict
from typing import Annotated

import typer

from flows.terminal.options import JsonOption, WorkspaceOption, chosen_run, existing
from flows.terminal.output import print_json, results

EXAMPLES = (
    "mlc compare 3 last",
    "mlc compare 3 4 --json",
)


def command(
    first: Annotated[str, typer.Argument(help="A run: its number, the beginning of its id, or last.")],
    second: Annotated[str, typer.Argument(help="The run that is held against it.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: settings, languages and figures.

    Figures are those of the candidates, on the prompts that both have.
    """
    # They bring numpy and pyarrow.
    from flows.looking.comparing import compare_runs
    from flows.terminal.comparison_tables import show_comparison
    from mlc.store import ArtifactStore

    store = ArtifactStore(existing(workspace), looking=True)
    found = compare_runs(store, chosen_run(store.workspace, first), chosen_run(store.workspace, second))
    if as_json:
        print_json(asdict(found))
    else:
        show_comparison(found, results)
