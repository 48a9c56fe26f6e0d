"""The connection to the registry of a workspace."""

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.locks import file_lock
from tasks.runtime.registry.addresses import DATABASE_FILE, experiment_name, named_uri, tracking_uri, use_uri
from tasks.runtime.registry.database import artifacts_of, come_home, make_database
from tasks.runtime.registry.failures import registry_errors, unusable
from tasks.runtime.settings import RegistrySettings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of an experiment, so that MLflow's pages show its runs and their curves, and no traces of conversations."""


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
    uri, own = tracking_uri(settings, workspace), named_uri(settings) is None
    (workspace / "mlflow").mkdir(exist_ok=True)
    use_uri(uri)
    try:
        # Two runs that start at once must not both make the tables or the experiment.
        with file_lock(workspace / "mlflow" / ".lock"):
            if own:
                make_database(workspace / "mlflow")
                come_home(workspace / "mlflow")
            client = MlflowClient()
            _require_experiment(client, experiment_name(settings), workspace if own else None)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise unusable(uri, error) from None
    return client


def _require_experiment(client: "MlflowClient", name: str, own: Path | None) -> None:
    """Makes an experiment, or restores it in the database of a workspace of our own."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # Without a location of its own, MLflow writes ./mlruns into the current folder.
        place = None if own is None else artifacts_of(own / "mlflow")
        client.create_experiment(name, artifact_location=place, tags=_KIND)
    elif found.lifecycle_stage == "deleted":
        if own is None:
            raise UserError(
                f"The MLflow experiment {name!r} was deleted on the server: restore it there, or name another one in "
                "registry.experiment. What is finished is kept."
            )
        client.restore_experiment(found.experiment_id)


@contextmanager
def looking_at(settings: RegistrySettings, store: ArtifactStore) -> Iterator["MlflowClient"]:
    """Connects to the registry of a workspace that need not be writable; what is there is copied aside if it is not.

    Raises:
        UserError: The tracking server cannot be reached, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mlc-registry-") as aside:
        place = store.workspace
        if not store.writable and named_uri(settings) is None:
            place = Path(aside)
            (place / "mlflow").mkdir()
            for file in (store.workspace / "mlflow").glob(f"{DATABASE_FILE}*"):
                shutil.copyfile(file, place / "mlflow" / file.name)
        client = connect(settings, place)
        with registry_errors(settings, place):
            yield client
