"""MLflow's database in a file: made, put right where it was moved, and read without MLflow, which loads for seconds."""

import contextlib
import sqlite3
from pathlib import Path

from mlc.store.drafts import draft_file
from tasks.runtime.registry.addresses import DATABASE_FILE, SQLITE, named_uri, tracking_uri
from tasks.runtime.registry.failures import unusable
from tasks.runtime.settings import RegistrySettings

NOT_READ = "not read"
"""What :func:`from_database` gives, this very object, where MLflow itself has to be asked."""
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's database that say where files lie."""


def make_database(folder: Path) -> None:
    """Makes the tables of MLflow aside, because a kill between two of them would leave a database that never opens."""
    database = folder / DATABASE_FILE
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with draft_file(database) as draft:
        SqlAlchemyStore(f"{SQLITE}{draft}", artifacts_of(folder)).engine.dispose()


def artifacts_of(folder: Path) -> str:
    """Where a database of our own keeps its files, as MLflow names places; the folder is the database's."""
    return (folder / "artifacts").as_uri()


def come_home(folder: Path) -> None:
    """Names the files of a workspace that was moved by where they are now.

    Only locations as this project gives them are changed, the ``mlflow/artifacts`` of a workspace.
    """
    home = artifacts_of(folder)
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


def from_database(
    settings: RegistrySettings, workspace: Path, table: str, column: str, more: str = "1", **facts: str | int
) -> str | None:
    """What MLflow's database in a file has; None where it has nothing, :data:`NOT_READ` where it cannot be asked.

    Args:
        settings: The registry.
        workspace: Folder of the workspace.
        table: Of the database.
        column: The one that is read.
        more: A condition in SQL, of constants alone.
        facts: What the row has, by its columns.

    Raises:
        UserError: Another program holds the database locked.
    """
    uri = tracking_uri(settings, workspace)
    database = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or (named_uri(settings) and not database.is_file()):
        return NOT_READ
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
            raise unusable(uri, error) from None
        # Made by another release of MLflow.
        return NOT_READ
    return str(rows[0][0]) if rows else None
