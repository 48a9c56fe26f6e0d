"""Where the registry of a workspace is: as configured, as the environment says, or in the workspace itself."""

import os
import threading
from pathlib import Path

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.urls import expanded
from tasks.runtime.settings import RegistrySettings

URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
EXPERIMENT = "mlc"
DATABASE_FILE = "mlflow.db"
SQLITE = "sqlite:///"
_environment = threading.Lock()


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
    return named_uri(settings) or f"{SQLITE}{workspace / 'mlflow' / DATABASE_FILE}"


def named_uri(settings: RegistrySettings) -> str | None:
    """A tracking server that is not the workspace's own database."""
    with _environment:
        if settings.tracking_uri:
            return expanded(settings.tracking_uri, "registry.tracking_uri")
        return os.environ.get(URI_VARIABLE) or None


def use_uri(uri: str) -> None:
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
