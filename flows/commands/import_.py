"""`mlc import`: the artifacts of an archive."""

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal.options import WorkspaceOption, goes_if_empty, workspace_or_default
from flows.terminal.output import results, shown
from flows.terminal.quiet import be_quiet
from mlc.store import ArtifactStore
from mlc.store.archives import import_archive
from mlc.store.locks import workspace_lock

EXAMPLES = (
    "mlc import run.tar.gz",
    "mlc import run.tar --verify public.pem --workspace /data/models",
)


def command(
    file: Annotated[Path, typer.Argument(help="An archive that `mlc export` wrote.")],
    workspace: WorkspaceOption = None,
    verify: Annotated[
        Path | None, typer.Option(help="Take it only if it was signed with the private key of this public one.")
    ] = None,
) -> None:
    """Take over the artifacts of an archive."""
    be_quiet()
    from flows.stages import STAGES

    folder = workspace_or_default(workspace)
    goes_if_empty(folder)
    store = ArtifactStore(folder)
    with workspace_lock(store.workspace, shared=True):
        taken = import_archive(store, file, kinds={stage.name for stage in STAGES}, public_key=verify)
    results.print(f"{taken.new} of {taken.artifacts} artifacts are new in {shown(folder)}.", highlight=False)
    if taken.left_out:
        results.print(f"{taken.left_out} files that no manifest declares were left out.", highlight=False)
