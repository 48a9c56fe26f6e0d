"""`mlc compare`: two runs beside each other."""

from dataclasses import asdict
from typing import Annotated

import typer

from flows.terminal import completion
from flows.terminal.options import JsonOption, WorkspaceOption, chosen_run, existing
from flows.terminal.output import print_json, results
from mlc.errors import UserError

CHAMPION = "champion"
"""What the run is called whose version is live."""
EXAMPLES = (
    "mlc compare champion last",
    "mlc compare 3 last",
    "mlc compare 3 4 --json",
)


def command(
    first: Annotated[
        str,
        typer.Argument(
            help="A run: its number, the beginning of its id, last, or champion.",
            autocompletion=completion.runs_or_champion,
        ),
    ],
    second: Annotated[
        str, typer.Argument(help="The run that is held against it.", autocompletion=completion.runs_or_champion)
    ],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: settings, languages and figures.

    The champion's run is the one that registered it. Figures are those of the candidates, on the prompts that both
    have.
    """
    # They bring numpy and pyarrow.
    from flows.looking.comparing import compare_runs
    from flows.looking.figures import run_of_champion
    from flows.terminal.comparison_tables import show_comparison
    from mlc.store import ArtifactStore

    store = ArtifactStore(existing(workspace), looking=True)
    names = (first, second)
    one, other = (run_of_champion(store) if name == CHAMPION else chosen_run(store.workspace, name) for name in names)
    if one.number == other.number and CHAMPION in names:
        raise UserError(f"Run {one.number} is the champion's own run: name another one to compare with.")
    found = compare_runs(store, one, other)
    if as_json:
        print_json(asdict(found))
    else:
        show_comparison(found, results)
