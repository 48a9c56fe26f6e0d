"""The MLflow registry: connection, versions, aliases, and our own record of promotions."""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.store import ArtifactRef, ArtifactStore
from mlc.store.drafts import draft_file
from mlc.store.lines import append_line, read_lines
from mlc.store.locks import file_lock
from mlc.urls import expanded, redacted
from tasks.runtime.artifacts import VERSION_FILE
from tasks.runtime.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
PROMOTIONS_FILE = "promotions.jsonl"
DATABASE_FILE = "mlflow.db"
_SQLITE = "sqlite:///"
_PROMOTION = {"time", "name", "version", "run_id", "by", "reasons", "previous"}
"""What a line of the record says, at least."""
_NOT_READ = "not read"
_KEY_TAG = "mlc.key"
"""Of an MLflow run: the key of the registration that it belongs to."""
_FINISHED_TAG = "mlc.finished"
"""Of an MLflow run: set last, when its version has everything."""


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
    text = (store.folder(ref) / VERSION_FILE).read_text(encoding="utf-8")
    return ModelVersion(**json.loads(text))


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
    """The tracking server that is configured, else a database in the workspace."""
    if settings.tracking_uri:
        return expanded(settings.tracking_uri, "registry.tracking_uri")
    return f"{_SQLITE}{workspace / 'mlflow' / DATABASE_FILE}"


def connect(settings: RegistrySettings, workspace: Path) -> "MlflowClient":
    """Connects to the registry of a workspace, and makes the experiment where it is missing.

    Raises:
        UserError: The tracking server cannot be reached.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    # It sets its own level when it is imported.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    uri = tracking_uri(settings, workspace)
    (workspace / "mlflow").mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        # Two runs that start at once must not both make the tables or the experiment.
        with file_lock(workspace / "mlflow" / ".lock"):
            if not settings.tracking_uri:
                _make_database(workspace / "mlflow")
            client = MlflowClient()
            if client.get_experiment_by_name(settings.experiment) is None:
                # Without a location of its own, MLflow writes ./mlruns into the current folder.
                location = None if settings.tracking_uri else (workspace / "mlflow" / "artifacts").as_uri()
                client.create_experiment(settings.experiment, artifact_location=location)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise _unusable(uri, error) from None
    return client


@contextmanager
def looking_at(settings: RegistrySettings, store: ArtifactStore) -> Iterator["MlflowClient"]:
    """Connects to the registry of a workspace that need not be writable; what is there is copied aside if it is not.

    Raises:
        UserError: The tracking server cannot be reached, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mlc-registry-") as aside:
        place = store.workspace
        if not store.writable and not settings.tracking_uri:
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
        return UserError(
            f"The MLflow database {redacted(uri)!r} is locked by another program: close it and run again; what is "
            "finished is kept."
        )
    if "malformed" in str(error) or "not a database" in str(error):
        return UserError(
            f"The MLflow database {uri!r} is damaged: put a backup in its place, or move it away and run again, which "
            "registers the model anew; what is finished is kept."
        )
    return UserError(
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


def begin_registration(key: str) -> dict[str, str]:
    """Tags of the MLflow run of a registration, so that it is known again if this process ends before it is done.

    Args:
        key: Key of the artifact of the stage ``register``.
    """
    return {_KEY_TAG: key}


def finish_registration(client: "MlflowClient", version: ModelVersion) -> None:
    """Notes that a version has everything."""
    client.set_tag(version.run_id, _FINISHED_TAG, "true")


def take_finished(client: "MlflowClient", settings: RegistrySettings, key: str) -> ModelVersion | None:
    """The version that an earlier attempt at the same registration finished before it was killed.

    Versions that it left unfinished are deleted, and their runs are marked as killed, but only in the workspace's
    own database: on a server, another machine may be at work on them.

    Args:
        client: From :func:`connect`.
        settings: The registry.
        key: Key of the artifact of the stage ``register``.
    """
    experiment = client.get_experiment_by_name(settings.experiment)
    finished = None
    for run in client.search_runs([experiment.experiment_id], f"tags.`{_KEY_TAG}` = '{key}'"):
        versions = client.search_model_versions(f"run_id = '{run.info.run_id}' and name = '{settings.model_name}'")
        if _FINISHED_TAG in run.data.tags:
            finished = finished or next(
                (ModelVersion(run.info.run_id, version.name, str(version.version)) for version in versions), None
            )
        elif not settings.tracking_uri:
            for version in versions:
                client.delete_model_version(version.name, version.version)
            client.set_terminated(run.info.run_id, "KILLED")
    return finished


def version_problem(version: ModelVersion, settings: RegistrySettings, workspace: Path) -> str | None:
    """Why a stored version no longer stands in the registry, or None.

    A database in a file is read as it is: MLflow takes seconds to load, and a plan has less.
    """
    gone = f"version {version.version} of {version.name} is no longer in the registry"
    uri = tracking_uri(settings, workspace)
    try:
        run_id = _run_of(Path(uri.removeprefix(_SQLITE)), version) if uri.startswith(_SQLITE) else _NOT_READ
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise _unusable(uri, error) from None
        # Made by another release of MLflow.
        run_id = _NOT_READ
    if run_id == _NOT_READ:
        from mlflow.exceptions import MlflowException

        try:
            run_id = str(connect(settings, workspace).get_model_version(version.name, version.version).run_id)
        except MlflowException:
            return gone
    if run_id is None:
        return gone
    return None if run_id == version.run_id else f"version {version.version} belongs to another run"


def _run_of(database: Path, version: ModelVersion) -> str | None:
    """Run of a version as the database of MLflow has it, or None."""
    if not database.is_file():
        return None
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        rows = connection.execute(
            "SELECT run_id FROM model_versions WHERE name = ? AND version = ? AND current_stage <> ?",
            (version.name, int(version.version), "Deleted_Internal"),
        ).fetchall()
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
    facts = {**version.as_dict(), "by": by, "reasons": list(reasons)}
    last = next(reversed(read_promotions(record, version.name)), None)
    if last is not None and {name: last[name] for name in facts} == facts:
        # Written by an attempt that was killed before it was done.
        previous: str | None = last["previous"]
    else:
        previous = champion(client, version.name)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        append_line(record, {"time": time, **facts, "previous": previous})
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
    return previous


def read_promotions(record: Path, name: str) -> list[dict[str, Any]]:
    """The promotions of a model, oldest first; a line that a failing disk cut off is passed over.

    Args:
        record: ``promotions.jsonl`` of a workspace, which need not be there.
        name: Name of the registered model.
    """
    return [entry for entry in read_lines(record) if entry.get("name") == name and entry.keys() >= _PROMOTION]


def champion(client: "MlflowClient", name: str) -> str | None:
    """Version that is champion now, if any."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException:
        return None
