"""Who is champion and who is candidate, and how a version becomes champion."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.runtime.registry.addresses import SQLITE, tracking_uri
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.database import NOT_READ, from_database
from tasks.runtime.registry.failures import registry_errors
from tasks.runtime.registry.promotions import (
    OUTSIDE,
    PROMOTIONS_FILE,
    last_promotion,
    previous_champion,
    recording,
    write_promotion,
)
from tasks.runtime.registry.versions import ModelVersion, checkpoint_of
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.version_page import NOBODY, REPLACES, describe_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
CANDIDATE = "candidate"
_PROMOTED_TAG = "mlc.promoted"
"""Of a registered model: the last line of the record whose alias was set."""


def champion(client: "MlflowClient", name: str) -> str | None:
    """Version that is champion now, if any."""
    return _version_with(client, name, CHAMPION)


def candidate(client: "MlflowClient", name: str) -> str | None:
    """Version that is candidate now, if any."""
    return _version_with(client, name, CANDIDATE)


def promote_version(
    client: "MlflowClient", record: Path, version: ModelVersion, reasons: Sequence[str], *, by: str
) -> str | None:
    """Makes a version champion and writes it down.

    MLflow keeps no history of aliases, so the workspace's ``promotions.jsonl`` does.

    Args:
        client: From :func:`connect`.
        record: ``promotions.jsonl`` of the workspace.
        version: The version.
        reasons: The checks in words.
        by: ``gate`` or ``person``.

    Returns:
        The version that was champion before, if any.
    """
    with recording(record):
        current = _note_champion(client, record, version.name)
        facts = {**version.as_dict(), "by": by, "reasons": list(reasons)}
        last = last_promotion(record, version.name)
        if last is not None and {name: last[name] for name in facts} == facts:
            # Written by an attempt that was killed before it was done, or the champion already.
            previous: str | None = last["previous"]
        else:
            previous, last = current, write_promotion(record, facts, current)
        client.set_registered_model_alias(version.name, CHAMPION, version.version)
        client.set_registered_model_tag(version.name, _PROMOTED_TAG, _mark(last))
        if previous != version.version:
            client.set_model_version_tag(version.name, version.version, REPLACES, previous or NOBODY)
        describe_version(client, version.name, version.version)
    return previous


def note_champion(client: "MlflowClient", record: Path, name: str) -> str | None:
    """The champion of now; one that others made is written down first, as ``by: outside``.

    Args:
        client: From :func:`connect`.
        record: ``promotions.jsonl`` of the workspace.
        name: Name of the registered model.
    """
    with recording(record):
        return _note_champion(client, record, name)


def look_at_champion(settings: RegistrySettings, workspace: Path) -> None:
    """Writes a champion down that others made, without loading MLflow where there is none.

    Args:
        settings: The registry.
        workspace: Folder of the workspace.

    Raises:
        UserError: The registry cannot be reached.
    """
    record, name = workspace / PROMOTIONS_FILE, settings.model_name
    last = last_promotion(record, name)
    now = from_database(settings, workspace, "registered_model_aliases", "version", name=name, alias=CHAMPION)
    if now is not NOT_READ and now == (last["version"] if last else None):
        return
    with registry_errors(settings, workspace):
        note_champion(connect(settings, workspace), record, name)


def champion_beside(settings: RegistrySettings, workspace: Path, checkpoint: str) -> str | None:
    """The champion that a candidate would replace, without loading MLflow where a file can be asked.

    Args:
        settings: The registry.
        workspace: Folder of the workspace.
        checkpoint: Key of the candidate's checkpoint. Where the champion is a registration of that same checkpoint, the
            champion before it is meant, so that a run that is repeated finds its decision.

    Returns:
        The version; None where there is none.

    Raises:
        UserError: The registry cannot be reached.
    """
    name = settings.model_name
    version = from_database(settings, workspace, "registered_model_aliases", "version", name=name, alias=CHAMPION)
    if version is NOT_READ:
        uri = tracking_uri(settings, workspace)
        if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
            # To ask MLflow would make it.
            return None
        with registry_errors(settings, workspace):
            version = champion(connect(settings, workspace), name)
    seen: set[str] = set()
    while version is not None and checkpoint_of(settings, workspace, version) == checkpoint:
        seen.add(version)
        version = previous_champion(workspace / PROMOTIONS_FILE, name, version)
        if version in seen:
            return None
    return version


def _note_champion(client: "MlflowClient", record: Path, name: str) -> str | None:
    current, last = champion(client, name), last_promotion(record, name)
    recorded = last["version"] if last else None
    if current == recorded:
        return current
    model = _registered(client, name)
    if model and last and current == last["previous"] and model.tags.get(_PROMOTED_TAG) != _mark(last):
        # An attempt was killed between the record and the alias. It is made again, or it never was.
        return current
    run_id = None if current is None else client.get_model_version(name, current).run_id
    facts = {"run_id": run_id, "name": name, "version": current, "by": OUTSIDE}
    noted = write_promotion(record, {**facts, "reasons": ["the alias was changed in MLflow"]}, recorded)
    if model:
        client.set_registered_model_tag(name, _PROMOTED_TAG, _mark(noted))
    return current


def _registered(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _mark(entry: Mapping[str, Any]) -> str:
    """Tells a line of the record from the one before it."""
    return f"version {entry['version']} after {entry['previous']}, {entry['time']}"


def _version_with(client: "MlflowClient", name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # A server that does not answer is another matter than an alias that nobody has.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
