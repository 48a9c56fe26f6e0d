"""How far the registration of a model has come, so that one that was broken off goes on from there."""

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.store.drafts import draft_file
from mlc.store.locks import file_lock
from tasks.runtime.registry.addresses import experiment_name, named_uri
from tasks.runtime.registry.versions import ASKED_TAG, FAILED, ModelVersion
from tasks.runtime.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.tracking import MlflowClient

PLACE_FILE = "workspace.id"
_KEY_TAG = "mlc.key"
"""Of an MLflow run: the key of the registration that it belongs to."""
_PLACE_TAG = "mlc.workspace"
"""Of an MLflow run on a server: the workspace that began it."""
_MADE_TAG = "mlc.version_key"
"""Of an MLflow run: what its version is made of; versions of the same are one."""
_FINISHED_TAG = "mlc.finished"
"""Of an MLflow run: set last, when its version has everything."""
_TOLD_TAG = "mlc.registered"
"""Of an MLflow run that is finished: the version that it tells of, which another run may have registered."""


@dataclass(frozen=True)
class Registration:
    """How far a registration has come."""

    run_id: str | None = None
    """Of its run in MLflow; None where it has to be made."""
    version: ModelVersion | None = None
    """Its version; None where that has to be made."""
    answers: bool = False
    """Whether the version was asked already, by the registration that made it."""
    finished: bool = False
    """Whether its run and its version have everything."""


@dataclass(frozen=True)
class RegistrationKeys:
    """What tells registrations apart."""

    run: str
    """Of its run in MLflow: key of the artifact of the stage ``register``, by the model and all that it is measured
    beside."""
    version: str
    """Of its version: by the model alone."""


def registration_tags(settings: RegistrySettings, workspace: Path, keys: RegistrationKeys) -> dict[str, str]:
    """Tags of the MLflow run of a registration, so that it is known again if this process ends before it is done.

    Args:
        settings: The registry.
        workspace: Folder of the workspace.
        keys: What is registered.
    """
    own = {_KEY_TAG: keys.run, _MADE_TAG: keys.version}
    return own | ({} if named_uri(settings) is None else {_PLACE_TAG: _place(workspace)})


def finish_registration(client: "MlflowClient", run_id: str, version: ModelVersion) -> None:
    """Notes that a run of a registration, and the version that it tells of, have everything."""
    client.set_tag(run_id, _TOLD_TAG, version.version)
    client.set_tag(run_id, _FINISHED_TAG, "true")


def find_registration(
    client: "MlflowClient", settings: RegistrySettings, workspace: Path, keys: RegistrationKeys
) -> Registration:
    """What earlier attempts at the same registration have left, so that this one goes on from there.

    A version of the same model that is finished is taken, whatever it was measured beside. On a server, of what is not
    finished only what this workspace has begun is taken up: another machine may be at work on the rest. In the
    workspace nobody else works on the key. A version that was asked and could not answer is deleted, as are logged
    models that never became a version.

    Args:
        client: From :func:`tasks.runtime.registry.connecting.connect`.
        settings: The registry.
        workspace: Folder of the workspace.
        keys: What is registered.
    """
    experiment = client.get_experiment_by_name(experiment_name(settings)).experiment_id
    begun = Registration()
    for run in client.search_runs([experiment], f"tags.`{_KEY_TAG}` = '{keys.run}'"):
        if _FINISHED_TAG in run.data.tags:
            if told := _version_told(client, settings, run):
                return Registration(run.info.run_id, told, answers=True, finished=True)
        elif begun.run_id is None and (
            named_uri(settings) is None or run.data.tags.get(_PLACE_TAG) == _place(workspace)
        ):
            begun = _taken_up(client, settings, experiment, run.info.run_id)
    if begun.version is None:
        for run in client.search_runs([experiment], f"tags.`{_MADE_TAG}` = '{keys.version}'"):
            if _FINISHED_TAG in run.data.tags and (told := _version_told(client, settings, run)):
                return replace(begun, version=told, answers=True)
    return begun


def _version_told(client: "MlflowClient", settings: RegistrySettings, run: "MlflowRun") -> ModelVersion | None:
    """The version that a finished run tells of; None where it is no longer in the registry."""
    number = run.data.tags.get(_TOLD_TAG)
    whose = f"version_number = {number}" if number else f"run_id = '{run.info.run_id}'"
    found = client.search_model_versions(f"name = '{settings.model_name}' and {whose}")
    return _version_of(found[0]) if found else None


def _taken_up(client: "MlflowClient", settings: RegistrySettings, experiment: str, run_id: str) -> Registration:
    """A registration that was left in its midst, without what of it is of no use."""
    begun = Registration(run_id)
    for version in client.search_model_versions(f"run_id = '{run_id}' and name = '{settings.model_name}'"):
        if version.tags.get(ASKED_TAG) == FAILED or version.status != "READY":
            client.delete_model_version(version.name, version.version)
        else:
            begun = Registration(run_id, _version_of(version))
    if begun.version is None:
        for model in logged_models(client, experiment, run_id):
            client.delete_logged_model(model)
    return begun


def _version_of(found: "MlflowVersion") -> ModelVersion:
    return ModelVersion(str(found.run_id), found.name, str(found.version))


def logged_models(client: "MlflowClient", experiment: str, run_id: str) -> list[str]:
    """Ids of the models that MLflow holds of a run.

    Args:
        client: From :func:`tasks.runtime.registry.connecting.connect`.
        experiment: Id of the experiment.
        run_id: The run.
    """
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    return [str(model.model_id) for model in found]


def _place(workspace: Path) -> str:
    """What tells a workspace from all others, wherever it lies; made when it is first asked for."""
    file = workspace / "mlflow" / PLACE_FILE
    with file_lock(workspace / "mlflow" / ".lock"):
        if not file.is_file():
            with draft_file(file) as draft:
                draft.write_text(uuid.uuid4().hex, encoding="utf-8")
        return file.read_text(encoding="utf-8")
