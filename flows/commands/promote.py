"""`mlc promote`: promotion by a person."""

from typing import Annotated

import typer

from flows.terminal.options import ModelNameOption, WorkspaceOption, existing
from flows.terminal.output import results, shown
from flows.terminal.quiet import be_quiet
from mlc.store import ArtifactStore

EXAMPLES = (
    "mlc promote 3",
    "mlc promote 3 --reason 'better in Swahili'",
    "mlc promote 3 --force --reason 'a trial with ten people'",
)


def command(
    version: Annotated[str, typer.Argument(help="Version in the registry, such as 3.")],
    workspace: WorkspaceOption = None,
    name: ModelNameOption = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate failed.")] = False,
    reason: Annotated[
        str, typer.Option(help="Why; needed with --force and in place of another champion, and written down.")
    ] = "",
) -> None:
    """Make a registered version champion."""
    be_quiet()
    from flows.promoting import promote_by_person

    store = ArtifactStore(existing(workspace))
    results.print(shown(promote_by_person(store, version, name=name, force=force, reason=reason)), highlight=False)
