"""The MLflow registry: connection, versions, aliases, and our own record of promotions."""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import OutOfReachError, UserError
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.drafts import draft_file, draft_folder
from mlc.store.lines import append_line, read_lines
from mlc.store.locks import file_lock
from mlc.urls import expanded, redacted
from tasks.runtime.artifacts import VERSION_FILE
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.version_page import NOBODY, REPLACES, describe_version

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
CANDIDATE = "candidate"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
EXPERIMENT = "mlc"
OUTSIDE = "outside"
"""Who changed the champion, where it was not this project."""
PROMOTIONS_FILE = "promotions.jsonl"
CHECKPOINT_TAG = "artifact"
"""Of a version: key of the checkpoint that it was registered from."""
ASKED_TAG, ANSWERED, FAILED = "asked", "answered", "failed"
"""Of a version: whether it answered when it was asked."""
PLACE_FILE = "workspace.id"
DATABASE_FILE = "mlflow.db"
_SQLITE = "sqlite:///"
_PROMOTION = {"time", "name", "version", "run_id", "by", "reasons", "previous"}
"""What a line of the record says, at least."""
_TOLD_IN = "told_in"
"""Of a stored version: the MLflow run that tells how it was measured."""
_NOT_READ = "not read"
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
_PROMOTED_TAG = "mlc.promoted"
"""Of a registered model: the last line of the record whose alias was set."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of an experiment, so that MLflow's pages show its runs and their curves, and no traces of conversations."""
_environment = threading.Lock()
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's database that say where files lie."""


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


def registry_of(store: ArtifactStore, name: str = "") -> RegistrySettings:
    """The registry that the last registration in a workspace went to.

    Args:
        store: The workspace's.
        name: Name of the registered model, in place of the one that was registered.

    Raises:
        UserError: Nothing is registered yet.
    """
    registered = store.manifests("register")
    if not registered:
        raise UserError("Nothing is registered in this workspace yet: run the pipeline first.")
    stored = registered[-1]["parts"]["settings"].get("registry")
    try:
        return RegistrySettings(**{**stored, **({"model_name": name} if name else {})})
    except (TypeError, ValueError):
        raise UserError("The last registration does not say where it went: run the pipeline again.") from None


def tracking_uri(settings: RegistrySettings, workspace: Path) -> str:
    """The tracking server that is configured, else the one of the environment, else a database in the workspace."""
    return _named_uri(settings) or f"{_SQLITE}{workspace / 'mlflow' / DATABASE_FILE}"


def _named_uri(settings: RegistrySettings) -> str | None:
    """A tracking server that is not the workspace's own database."""
    with _environment:
        if settings.tracking_uri:
            return expanded(settings.tracking_uri, "registry.tracking_uri")
        return os.environ.get(URI_VARIABLE) or None


def _use(uri: str) -> None:
    """Makes MLflow use an address, which it then writes into the environment, as if a person had set it there."""
    import mlflow

    with _environment:
        before = os.environ.pop(URI_VARIABLE, None)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        os.environ.pop(URI_VARIABLE, None)
        if before is not None:
            os.environ[URI_VARIABLE] = before


def experiment_name(settings: RegistrySettings) -> str:
    """The experiment that is configured, else the one of the environment, else our own."""
    return settings.experiment or os.environ.get(EXPERIMENT_VARIABLE) or EXPERIMENT


def from_environment(settings: RegistrySettings) -> list[str]:
    """Names of the variables that decide where models are registered, because the configuration does not."""
    given = {URI_VARIABLE: settings.tracking_uri, EXPERIMENT_VARIABLE: settings.experiment}
    return [name for name, configured in given.items() if not configured and os.environ.get(name)]


def connect(settings: RegistrySettings, workspace: Path) -> "MlflowClient":
    """Connects to the registry of a workspace, and makes the experiment where it is missing.

    The workspace's own database names its files by absolute paths: those of a workspace that was moved are put right.

    Raises:
        UserError: The tracking server cannot be reached, or the experiment was deleted there.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    # It sets its own level when it is imported.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    uri, own = tracking_uri(settings, workspace), _named_uri(settings) is None
    (workspace / "mlflow").mkdir(exist_ok=True)
    _use(uri)
    try:
        # Two runs that start at once must not both make the tables or the experiment.
        with file_lock(workspace / "mlflow" / ".lock"):
            if own:
                _make_database(workspace / "mlflow")
                _come_home(workspace / "mlflow")
            client = MlflowClient()
            _require_experiment(client, experiment_name(settings), workspace if own else None)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise _unusable(uri, error) from None
    return client


def _require_experiment(client: "MlflowClient", name: str, own: Path | None) -> None:
    """Makes an experiment, or restores it in the database of a workspace of our own."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # Without a location of its own, MLflow writes ./mlruns into the current folder.
        place = None if own is None else _artifacts(own / "mlflow")
        client.create_experiment(name, artifact_location=place, tags=_KIND)
    elif found.lifecycle_stage == "deleted":
        if own is None:
            raise UserError(
                f"The MLflow experiment {name!r} was deleted on the server: restore it there, or name another one in "
                "registry.experiment. What is finished is kept."
            )
        client.restore_experiment(found.experiment_id)


def _artifacts(folder: Path) -> str:
    return (folder / "artifacts").as_uri()


def _come_home(folder: Path) -> None:
    """Names the files of a workspace that was moved by where they are now.

    Only locations as this project gives them are changed, the ``mlflow/artifacts`` of a workspace.
    """
    home = _artifacts(folder)
    with contextlib.closing(sqlite3.connect(folder / DATABASE_FILE, timeout=30)) as connection, connection:
        rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        ours = [str(row[0]) for row in rows if str(row[0]).endswith("/mlflow/artifacts")]
        for old in ours:
            if old == home:
                continue
            for table, column in _LOCATIONS:
                known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                if column in known:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (home, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )


@contextmanager
def looking_at(settings: RegistrySettings, store: ArtifactStore) -> Iterator["MlflowClient"]:
    """Connects to the registry of a workspace that need not be writable; what is there is copied aside if it is not.

    Raises:
        UserError: The tracking server cannot be reached, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mlc-registry-") as aside:
        place = store.workspace
        if not store.writable and _named_uri(settings) is None:
            place = Path(aside)
            (place / "mlflow").mkdir()
            for file in (store.workspace / "mlflow").glob(f"{DATABASE_FILE}*"):
                shutil.copyfile(file, place / "mlflow" / file.name)
        client = connect(settings, place)
        with registry_errors(settings, place):
            yield client


@contextmanager
def registry_errors(settings: RegistrySettings, workspace: Path) -> Iterator[None]:
    """Tells in one sentence that the registry failed in the midst of a block.

    Raises:
        UserError: It did.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise _unusable(tracking_uri(settings, workspace), error) from None


def _unusable(uri: str, error: Exception) -> UserError:
    if "database is locked" in str(error):
        return OutOfReachError(
            f"The MLflow database {redacted(uri)!r} is locked by another program: close it and run again; what is "
            "finished is kept."
        )
    if "malformed" in str(error) or "not a database" in str(error):
        return UserError(
            f"The MLflow database {uri!r} is damaged: put a backup in its place, or move it away and run again, which "
            "registers the model anew; what is finished is kept."
        )
    code = getattr(error, "error_code", None)
    if code and code != "INTERNAL_ERROR":
        return UserError(
            f"The MLflow server {uri!r} answers and refuses what it was asked ({code}): see its log, and the settings "
            "under registry. What is finished is kept."
        )
    return OutOfReachError(
        f"The MLflow server {redacted(uri)!r} cannot be used ({type(error).__name__}): start it, or change "
        "registry.tracking_uri; null keeps a database in the workspace. What is finished is kept."
    )


def _make_database(folder: Path) -> None:
    """Makes the tables of MLflow aside, because a kill between two of them would leave a database that never opens."""
    database = folder / DATABASE_FILE
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with draft_file(database) as draft:
        SqlAlchemyStore(f"{_SQLITE}{draft}", (folder / "artifacts").as_uri()).engine.dispose()


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
    return own | ({} if _named_uri(settings) is None else {_PLACE_TAG: _place(workspace)})


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
        client: From :func:`connect`.
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
            _named_uri(settings) is None or run.data.tags.get(_PLACE_TAG) == _place(workspace)
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
        client: From :func:`connect`.
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


def version_problem(version: ModelVersion, settings: RegistrySettings, workspace: Path) -> str | None:
    """Why a stored version no longer stands in the registry, or None.

    A database in a file is read as it is: MLflow takes seconds to load, and a plan has less.
    """
    gone = f"version {version.version} of {version.name} is no longer in the registry"
    facts: dict[str, Any] = {"name": version.name, "version": int(version.version)}
    run_id = _from_database(
        settings, workspace, "model_versions", "run_id", "current_stage <> 'Deleted_Internal'", **facts
    )
    if run_id is _NOT_READ:
        from mlflow.exceptions import MlflowException

        try:
            run_id = str(connect(settings, workspace).get_model_version(version.name, version.version).run_id)
        except MlflowException:
            return gone
    if run_id is None:
        return gone
    return None if run_id == version.run_id else f"version {version.version} belongs to another run"


def _from_database(
    settings: RegistrySettings, workspace: Path, table: str, column: str, more: str = "1", **facts: str | int
) -> str | None:
    """What MLflow's database in a file has; None where it has nothing, :data:`_NOT_READ` where it cannot be asked."""
    uri = tracking_uri(settings, workspace)
    database = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) or (_named_uri(settings) and not database.is_file()):
        return _NOT_READ
    if not database.is_file():
        return None
    where = " AND ".join([*(f"{name} = ?" for name in facts), more])
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as reader:
            rows = reader.execute(f"SELECT {column} FROM {table} WHERE {where}", tuple(facts.values())).fetchall()
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise _unusable(uri, error) from None
        # Made by another release of MLflow.
        return _NOT_READ
    return str(rows[0][0]) if rows else None


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
    with _recording(record):
        current = _note_champion(client, record, version.name)
        facts = {**version.as_dict(), "by": by, "reasons": list(reasons)}
        last = _last(record, version.name)
        if last is not None and {name: last[name] for name in facts} == facts:
            # Written by an attempt that was killed before it was done, or the champion already.
            previous: str | None = last["previous"]
        else:
            previous, last = current, _write(record, facts, current)
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
    with _recording(record):
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
    last = _last(record, name)
    now = _from_database(settings, workspace, "registered_model_aliases", "version", name=name, alias=CHAMPION)
    if now is not _NOT_READ and now == (last["version"] if last else None):
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
    version = _from_database(settings, workspace, "registered_model_aliases", "version", name=name, alias=CHAMPION)
    if version is _NOT_READ:
        uri = tracking_uri(settings, workspace)
        if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
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


def checkpoint_of(settings: RegistrySettings, workspace: Path, version: str) -> str | None:
    """Key of the checkpoint that a version was registered from; None where the registry does not say it.

    Raises:
        UserError: The registry cannot be reached.
    """
    facts: dict[str, Any] = {"name": settings.model_name, "version": int(version), "key": CHECKPOINT_TAG}
    key = _from_database(settings, workspace, "model_version_tags", "value", **facts)
    if key is not _NOT_READ:
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


def previous_champion(record: Path, name: str, current: str) -> str | None:
    """The champion before the one of now, by the record; None where there was none.

    Args:
        record: ``promotions.jsonl`` of a workspace, after :func:`note_champion`.
        name: Name of the registered model.
        current: The champion of now.
    """
    for entry in reversed(read_promotions(record, name)):
        # A champion may be confirmed for another reason.
        if entry["version"] == current != entry["previous"]:
            previous: str | None = entry["previous"]
            return previous
    return None


def _note_champion(client: "MlflowClient", record: Path, name: str) -> str | None:
    current, last = champion(client, name), _last(record, name)
    recorded = last["version"] if last else None
    if current == recorded:
        return current
    model = _registered(client, name)
    if model and last and current == last["previous"] and model.tags.get(_PROMOTED_TAG) != _mark(last):
        # An attempt was killed between the record and the alias. It is made again, or it never was.
        return current
    run_id = None if current is None else client.get_model_version(name, current).run_id
    facts = {"run_id": run_id, "name": name, "version": current, "by": OUTSIDE}
    noted = _write(record, {**facts, "reasons": ["the alias was changed in MLflow"]}, recorded)
    if model:
        client.set_registered_model_tag(name, _PROMOTED_TAG, _mark(noted))
    return current


def _recording(record: Path) -> AbstractContextManager[None]:
    return file_lock(record.parent / "mlflow" / ".promotions.lock")


def _last(record: Path, name: str) -> dict[str, Any] | None:
    return next(reversed(read_promotions(record, name)), None)


def _write(record: Path, facts: Mapping[str, Any], previous: str | None) -> dict[str, Any]:
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts, "previous": previous}
    append_line(record, entry)
    return entry


def _mark(entry: Mapping[str, Any]) -> str:
    """Tells a line of the record from the one before it."""
    return f"version {entry['version']} after {entry['previous']}, {entry['time']}"


def _registered(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def read_promotions(record: Path, name: str) -> list[dict[str, Any]]:
    """The promotions of a model, oldest first; a line that a failing disk cut off is passed over.

    Args:
        record: ``promotions.jsonl`` of a workspace, which need not be there.
        name: Name of the registered model.
    """
    return [entry for entry in read_lines(record) if entry.get("name") == name and entry.keys() >= _PROMOTION]


def champion(client: "MlflowClient", name: str) -> str | None:
    """Version that is champion now, if any."""
    return _version_with(client, name, CHAMPION)


def candidate(client: "MlflowClient", name: str) -> str | None:
    """Version that is candidate now, if any."""
    return _version_with(client, name, CANDIDATE)


def _version_with(client: "MlflowClient", name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # A server that does not answer is another matter than an alias that nobody has.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
