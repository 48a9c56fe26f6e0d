"""`mlc rollback`: back to the champion before."""

from typing import Annotated

import typer

from flows.terminal.options import ModelNameOption, WorkspaceOption, existing
from flows.terminal.output import results, shown
from flows.terminal.quiet import be_quiet
from mlc.store import ArtifactStore

EXAMPLES = ("mlc rollback --reason 'complaints from Kenya'",)


def command(
    workspace: WorkspaceOption = None,
    name: ModelNameOption = "",
    reason: Annotated[str, typer.Option(help="Why; written down.")] = "",
) -> None:
    """Make the previous champion champion again."""
    be_quiet()
    from flows.promoting import roll_back

    results.print(shown(roll_back(ArtifactStore(existing(workspace)), name=name, reason=reason)), highlight=False)
