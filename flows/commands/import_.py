"""`mlc import`: the artifacts of an archive."""

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.options import WorkspaceOption, workspace_or_default
from flows.terminal.output import results
from mlc.store import ArtifactStore
from mlc.store.housekeeping import import_archive
from mlc.store.locks import workspace_lock


def command(
    file: Annotated[Path, typer.Argument(help="An archive that `mlc export` wrote.")], workspace: WorkspaceOption = None
) -> None:
    """Take over the artifacts of an archive."""
    folder = workspace_or_default(workspace)
    store = ArtifactStore(folder)
    with workspace_lock(store.workspace, shared=True):
        new, count = import_archive(store, file)
    results.print(f"{new} of {count} artifacts are new in {folder}.", highlight=False)
