"""What Prefect's databases in a workspace hold of its runs, and the room that old runs take there.

A server that a run starts has its database in the workspace. Nothing else reads what it holds of a run that is over:
the record of the run is in the workspace's journal. Prefect itself would remove runs one by one, and would leave their
log lines and events, which are most of it.
"""

import contextlib
import logging
import re
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from mlc.store.housekeeping import Garbage
from mlc.store.locks import LOCK_FILE, lock_if_free
from mlc.store.names import lies_in

DATABASE_FILE = "prefect.db"
SERVER_FOLDER = "prefect"
"""Folder of a server's database, below the workspace; others at the same time have ``prefect-2``, ``prefect-3`` …"""
PREFECT_RUN = "run in Prefect"
_FOLDER = re.compile(rf"{SERVER_FOLDER}(-[0-9]+)?")
_BUSY_SECONDS = 5.0
_EVENTS = "SELECT event_id FROM event_resources WHERE resource_id IN (SELECT 'prefect.flow-run.' || id FROM old)"
_OLD = {
    "event_resources": f"event_id IN ({_EVENTS})",
    "events": "id IN (SELECT id FROM old_events)",
    "log": "flow_run_id IN (SELECT id FROM old)",
    "artifact": "flow_run_id IN (SELECT id FROM old)",
    "task_run_state": "task_run_id IN (SELECT id FROM task_run WHERE flow_run_id IN (SELECT id FROM old))",
    "task_run": "flow_run_id IN (SELECT id FROM old)",
    "flow_run_state": "flow_run_id IN (SELECT id FROM old)",
    "flow_run": "id IN (SELECT id FROM old)",
}
"""Which rows of which table belong to old runs, in the order in which they can go."""

logger = logging.getLogger(__name__)


def old_runs(workspace: Path, ids: Collection[str]) -> list[Garbage]:
    """The flow runs of some ids in the databases of a workspace, with about the bytes that each of them takes.

    Args:
        workspace: Folder of the workspace.
        ids: Of flow runs.
    """
    return [item for database in _databases(workspace) for item in _looked(database, ids)]


def forget_runs(workspace: Path, ids: Collection[str]) -> list[Garbage]:
    """Removes flow runs, with all that belongs to them, from the databases of a workspace that no server uses.

    Args:
        workspace: Folder of the workspace.
        ids: Of flow runs.

    Returns:
        One entry a run, with the bytes that the disk got back shared out evenly.
    """
    removed: list[Garbage] = []
    for database in _databases(workspace):
        with lock_if_free(database.parent / LOCK_FILE) as free:
            if free:
                removed += _forget(database, ids)
    return removed


def _databases(workspace: Path) -> list[Path]:
    found = sorted(workspace.glob(f"{SERVER_FOLDER}*/{DATABASE_FILE}"))
    return [path for path in found if _FOLDER.fullmatch(path.parent.name) and lies_in(path, workspace)]


def _looked(database: Path, ids: Collection[str]) -> list[Garbage]:
    def look(connection: sqlite3.Connection) -> list[Garbage]:
        if not (runs := _count(connection, "flow_run", _OLD["flow_run"])):
            return []
        rows = sum(_count(connection, table) for table in _OLD)
        old = sum(_count(connection, table, where) for table, where in _OLD.items())
        return [Garbage(database, _size(database) * old // (rows * runs), PREFECT_RUN)] * runs

    return _with_old(f"{database.as_uri()}?mode=ro", ids, look)


def _forget(database: Path, ids: Collection[str]) -> list[Garbage]:
    before = _size(database)

    def forget(connection: sqlite3.Connection) -> list[Garbage]:
        found = [Garbage(database, 0, PREFECT_RUN)] * _count(connection, "flow_run", _OLD["flow_run"])
        if not found:
            return []
        for table, where in _OLD.items():
            connection.execute(f"DELETE FROM {table} WHERE {where}")
        # The newest of each name, which for an old run may be one of its own.
        connection.execute("DELETE FROM artifact_collection WHERE latest_id NOT IN (SELECT id FROM artifact)")
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return [replace(item, bytes=max(0, before - _size(database)) // len(found)) for item in found]

    return _with_old(database.as_uri(), ids, forget)


def _with_old(uri: str, ids: Collection[str], work: Callable[[sqlite3.Connection], list[Garbage]]) -> list[Garbage]:
    """Opens a database with the ids in the table ``old``; nothing comes of it where Prefect has other tables by now."""
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("CREATE TEMP TABLE old (id PRIMARY KEY)")
            connection.executemany("INSERT INTO old VALUES (?)", [(each,) for each in ids])
            connection.execute(f"CREATE TEMP TABLE old_events AS SELECT event_id AS id FROM ({_EVENTS})")
            connection.commit()
            return work(connection)
    except sqlite3.Error as error:
        logger.warning("Old runs stay in the Prefect database %s (%s).", uri, error)
        return []


def _count(connection: sqlite3.Connection, table: str, where: str = "1") -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])


def _size(database: Path) -> int:
    files = (Path(f"{database}{suffix}") for suffix in ("", "-wal"))
    return sum(file.stat().st_size for file in files if file.is_file())
