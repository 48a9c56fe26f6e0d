"""What people are told when the registry fails."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlc.errors import OutOfReachError, UserError
from mlc.urls import redacted
from tasks.runtime.registry.addresses import tracking_uri
from tasks.runtime.settings import RegistrySettings


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
        raise unusable(tracking_uri(settings, workspace), error) from None


def unusable(uri: str, error: Exception) -> UserError:
    """Why a registry cannot be used, in one sentence that says what to do.

    Args:
        uri: Of the registry.
        error: What MLflow, or the driver of its database, raised.

    Returns:
        The error to raise; an :class:`OutOfReachError` where nothing answers, or another program is in the way.
    """
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
