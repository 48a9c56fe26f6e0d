"""Databases in a workspace that Prefect did not write; for its own see ``tests/flows/test_smoke.py``."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tasks.runtime.prefect_database import forget_runs, old_runs


@pytest.mark.parametrize("tables", [None, "", "CREATE TABLE flow_run (id); INSERT INTO flow_run VALUES ('run');"])
def test_a_database_of_another_kind_stays_as_it_is(tmp_path: Path, tables: str | None) -> None:
    path = tmp_path / "prefect-2" / "prefect.db"
    path.parent.mkdir()
    if tables is None:
        path.write_bytes(b"no database at all" * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(tables)
    before = path.read_bytes()
    assert old_runs(tmp_path, ["run"]) == forget_runs(tmp_path, ["run"]) == []
    assert path.read_bytes() == before


def test_only_folders_of_servers_in_the_workspace_are_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (tmp_path / "workspace" / "prefect-old", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "prefect.db").write_bytes(b"no database at all")
    (tmp_path / "workspace" / "prefect").symlink_to(tmp_path / "elsewhere")
    assert old_runs(tmp_path / "workspace", ["run"]) == forget_runs(tmp_path / "workspace", ["run"]) == []
    assert not caplog.records
