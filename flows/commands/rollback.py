"""`mlc rollback`: back to the champion before."""

from typing import Annotated

import typer

from flows.terminal.options import ModelNameOption, WorkspaceOption, existing
from flows.terminal.output import results, shown
from flows.terminal.quiet import be_quiet
from mlc.errors import UserError
from mlc.store import ArtifactStore

EXAMPLES = ("mlc rollback --reason 'complaints from Kenya'",)


def command(
    workspace: WorkspaceOption = None,
    name: ModelNameOption = "",
    reason: Annotated[str, typer.Option(help="Why; written down.")] = "",
) -> None:
    """Make the previous champion champion again."""
    be_quiet()
    from mlflow.exceptions import MlflowException

    from tasks.runtime.registry import (
        PROMOTIONS_FILE,
        ModelVersion,
        connect,
        note_champion,
        previous_champion,
        promote_version,
        registry_errors,
        registry_of,
    )

    store = ArtifactStore(existing(workspace))
    settings, record = registry_of(store, name), store.workspace / PROMOTIONS_FILE
    client = connect(settings, store.workspace)
    with registry_errors(settings, store.workspace):
        current = note_champion(client, record, settings.model_name)
        previous = previous_champion(record, settings.model_name, current) if current else None
        if current is None or previous is None:
            raise UserError(
                f"There is no champion of {settings.model_name!r} to go back to: `mlc status` shows the versions, and "
                "`mlc promote` makes one of them champion."
            )
        try:
            found = client.get_model_version(settings.model_name, previous)
        except MlflowException:
            raise UserError(
                f"The champion before, version {previous} of {settings.model_name!r}, is no longer in the registry: "
                "make another version champion with `mlc promote`."
            ) from None
        target = ModelVersion(str(found.run_id), settings.model_name, previous)
        reasons = [f"rollback from version {current}", *([reason] if reason.strip() else [])]
        promote_version(client, record, target, reasons, by="person")
    results.print(
        f"Version {previous} of {shown(settings.model_name)} is champion again, in place of version {current}.",
        highlight=False,
    )
