"""What a server of our own does with a database that cannot be used."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from flows.terminal import server
from flows.terminal.server import DATABASE_FILE, answers, free_port, started_server
from mlc.errors import UserError


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"no database at all" * 1000)
    server._require_database(tmp_path / DATABASE_FILE)
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == [f"{DATABASE_FILE}.damaged"]


# A server that begins without a database is what every other test has.
@pytest.mark.full
def test_a_damaged_database_is_set_aside_and_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    (home / DATABASE_FILE).write_bytes(b"no database at all" * 1000)
    with started_server(tmp_path, free_port(), home=home) as started:
        assert answers(started.api)
        assert not started.gone
    assert started.gone
    aside = list(home.glob(f"{DATABASE_FILE}.damaged-*"))
    assert [path.read_bytes()[:11] for path in aside] == [b"no database"]
    with contextlib.closing(sqlite3.connect(home / DATABASE_FILE)) as database:
        assert database.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)


def test_a_locked_database_is_told_of_before_a_server_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(tmp_path / DATABASE_FILE)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with (
            pytest.raises(UserError, match="locked by another program: close it, and start the run again"),
            started_server(tmp_path, free_port(), home=tmp_path),
        ):
            raise AssertionError("it must not start")
    finally:
        holder.close()
