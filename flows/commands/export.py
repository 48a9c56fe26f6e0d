"""`mlc export`: a run's artifacts as one archive."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import completion
from flows.terminal.options import WorkspaceOption, chosen_run, existing
from flows.terminal.output import results, shown
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.archives import ENDINGS, export_run, telling_secrets
from mlc.store.locks import workspace_lock

EXAMPLES = (
    "mlc export last run.tar.gz",
    "mlc export 3 run.tar --sign private.pem",
)


def command(
    run: Annotated[
        str, typer.Argument(help="Number of the run, the beginning of its id, or last.", autocompletion=completion.runs)
    ],
    file: Annotated[Path, typer.Argument(help="The archive to write: .tar, or .tar.gz.")],
    workspace: WorkspaceOption = None,
    sign: Annotated[
        Path | None, typer.Option(help="Sign the archive with an Ed25519 private key in this PEM file.")
    ] = None,
) -> None:
    """Write the artifacts of a run as one archive."""
    if not file.name.lower().endswith(ENDINGS):
        raise UserError(f"The archive {str(file)!r} must end in {' or '.join(ENDINGS)}: give it such a name.")
    store = ArtifactStore(existing(workspace), looking=True)
    record = chosen_run(store.workspace, run)
    # Where nothing can be written, nothing is taken away either.
    with workspace_lock(store.workspace, shared=True) if store.writable else nullcontext():
        count = export_run(store, record, file, key_file=sign)
        telling = telling_secrets(store, record)
    results.print(
        f"{count} artifacts of run {record.number} in {shown(file)} ({file.stat().st_size} bytes).", highlight=False
    )
    if telling:
        kinds = ", ".join(sorted({kind for kind, _ in telling}))
        results.print(
            f"An earlier release wrote the password or token of an address into {len(telling)} of them ({kinds}): "
            "change it before you hand on the archive.",
            highlight=False,
            soft_wrap=True,
        )
