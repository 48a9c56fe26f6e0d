"""`mlc promote`: promotion by a person."""

from typing import Annotated

import typer

from flows.terminal.options import ModelNameOption, WorkspaceOption, existing
from flows.terminal.output import results, shown
from flows.terminal.quiet import be_quiet
from mlc.errors import UserError
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
    from mlflow.exceptions import MlflowException

    from tasks.runtime.registry import (
        PROMOTIONS_FILE,
        ModelVersion,
        connect,
        note_champion,
        promote_version,
        registry_errors,
        registry_of,
    )

    store = ArtifactStore(existing(workspace))
    settings, record = registry_of(store, name), store.workspace / PROMOTIONS_FILE
    client = connect(settings, store.workspace)
    try:
        found = client.get_model_version(settings.model_name, version)
    except MlflowException:
        raise UserError(
            f"There is no version {version!r} of {settings.model_name!r}: run `mlc status` for the versions."
        ) from None
    gate = found.tags.get("gate", "not judged")
    if gate != "passed" and not force:
        raise UserError(
            f"Version {version} of {settings.model_name!r} did not pass the gate ({gate}): see its report, or "
            "promote it all the same with --force --reason 'why'."
        )
    if force and not reason.strip():
        raise UserError("The option --force needs --reason, which is written into the promotion record.")
    with registry_errors(settings, store.workspace):
        current = note_champion(client, record, settings.model_name)
        if current not in (None, version) and not reason.strip():
            raise UserError(
                f"Version {current} of {settings.model_name!r} is champion: say with --reason why version {version} "
                "takes its place; it is written into the promotion record."
            )
        target = ModelVersion(str(found.run_id), settings.model_name, version)
        previous = promote_version(client, record, target, [reason] if reason else [f"gate {gate}"], by="person")
    before = f" in place of version {previous}" if previous and previous != version else ""
    results.print(f"Version {version} of {shown(settings.model_name)} is champion{before}.", highlight=False)
