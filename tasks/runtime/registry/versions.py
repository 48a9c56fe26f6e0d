"""Versions in the registry: which one an artifact stands for, what it was made of, and its files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.drafts import draft_folder
from tasks.runtime.artifacts import VERSION_FILE
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.database import NOT_READ, from_database
from tasks.runtime.registry.failures import registry_errors
from tasks.runtime.settings import RegistrySettings

CHECKPOINT_TAG = "artifact"
"""Of a version: key of the checkpoint that it was registered from."""
ASKED_TAG, ANSWERED, FAILED = "asked", "answered", "failed"
"""Of a version: whether it answered when it was asked."""
_TOLD_IN = "told_in"
"""Of a stored version: the MLflow run that tells how it was measured."""


@dataclass(frozen=True)
class ModelVersion:
    """A version in the registry."""

    run_id: str
    name: str
    version: str

    def as_dict(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)


def read_version(store: ArtifactStore, ref: ArtifactRef) -> ModelVersion:
    """The registered version that an artifact of the stage ``register`` stands for."""
    told = _registered_as(store, ref)
    return ModelVersion(told["run_id"], told["name"], told["version"])


def read_told_in(store: ArtifactStore, ref: ArtifactRef) -> str:
    """The MLflow run that tells how the version was measured: its own, or a later one where it was there already."""
    told = _registered_as(store, ref)
    return str(told.get(_TOLD_IN, told["run_id"]))


def write_version(folder: Path, version: ModelVersion, told_in: str) -> None:
    """Writes the content of an artifact of the stage ``register``.

    Args:
        folder: Of the artifact.
        version: The registered version.
        told_in: The MLflow run that tells how it was measured.
    """
    told = version.as_dict() | {_TOLD_IN: told_in}
    (folder / VERSION_FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")


def _registered_as(store: ArtifactStore, ref: ArtifactRef) -> dict[str, str]:
    found: dict[str, str] = json.loads((store.folder(ref) / VERSION_FILE).read_text(encoding="utf-8"))
    return found


def version_problem(version: ModelVersion, settings: RegistrySettings, workspace: Path) -> str | None:
    """Why a stored version no longer stands in the registry, or None.

    A database in a file is read as it is: MLflow takes seconds to load, and a plan has less.
    """
    gone = f"version {version.version} of {version.name} is no longer in the registry"
    facts: dict[str, Any] = {"name": version.name, "version": int(version.version)}
    run_id = from_database(
        settings, workspace, "model_versions", "run_id", "current_stage <> 'Deleted_Internal'", **facts
    )
    if run_id is NOT_READ:
        from mlflow.exceptions import MlflowException

        try:
            run_id = str(connect(settings, workspace).get_model_version(version.name, version.version).run_id)
        except MlflowException:
            return gone
    if run_id is None:
        return gone
    return None if run_id == version.run_id else f"version {version.version} belongs to another run"


def checkpoint_of(settings: RegistrySettings, workspace: Path, version: str) -> str | None:
    """Key of the checkpoint that a version was registered from; None where the registry does not say it.

    Raises:
        UserError: The registry cannot be reached.
    """
    facts: dict[str, Any] = {"name": settings.model_name, "version": int(version), "key": CHECKPOINT_TAG}
    key = from_database(settings, workspace, "model_version_tags", "value", **facts)
    if key is not NOT_READ:
        return key
    from mlflow.exceptions import MlflowException

    with registry_errors(settings, workspace):
        client = connect(settings, workspace)
        try:
            found: str | None = client.get_model_version(settings.model_name, version).tags.get(CHECKPOINT_TAG)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return found


def fetch_version(settings: RegistrySettings, store: ArtifactStore, version: str) -> Path | None:
    """The files of a registered version, copied into the workspace once.

    Args:
        settings: The registry.
        store: The workspace's.
        version: Which one, of the configured model.

    Returns:
        Their folder; None where the registry does not give them.

    Raises:
        UserError: The registry cannot be reached.
    """
    folder = store.fetched / f"{settings.model_name}-{version}"
    if not folder.is_dir():
        import mlflow
        from mlflow.exceptions import MlflowException

        with registry_errors(settings, store.workspace):
            connect(settings, store.workspace)
            try:
                with draft_folder(folder) as draft:
                    mlflow.artifacts.download_artifacts(f"models:/{settings.model_name}/{version}", dst_path=str(draft))
            except (OSError, MlflowException):  # files that were moved or deleted beside the registry
                return None
    return folder
