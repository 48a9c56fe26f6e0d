"""`mlc status` and `mlc gc` on workspaces that somebody damaged."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mlc.store import ArtifactStore, KeyParts
from mlc.store.runs import recorded


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A workspace of one run with two artifacts."""
    store = ArtifactStore(tmp_path / "workspace")
    with recorded(store.workspace, run_id="id", name="[red]x[/]\x1b[31m", config={}) as journal:
        for kind in ("ingest", "translate"):
            parts = KeyParts(kind, 1)
            with store.writing(kind, parts) as draft:
                (draft.path / "file").write_text(kind)
            journal.write({"task": {"stage": kind, "key": parts.key, "state": "ran"}})
    return store


def told(store: ArtifactStore, *arguments: str) -> str:
    ended = CliRunner().invoke(app, [*arguments, "--workspace", str(store.workspace)], env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return str(ended.output)


def test_names_are_shown_as_they_are(store: ArtifactStore) -> None:
    shown = told(store, "status")
    assert "[red]x[/]\ufffd[31m" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("line", ["5", '{"run": 1}', '{"task": {"stage": "..", "key": "x"}}'])
def test_a_bad_record_is_named_and_stops_nothing(store: ArtifactStore, line: str) -> None:
    (store.workspace / "runs" / "000002.jsonl").write_text(line + "\n")
    for command in (["status"], ["gc", "--dry-run"], ["gc"]):
        assert "Damaged record: runs/000002.jsonl is passed over" in told(store, *command)
    assert all(store.find(kind, KeyParts(kind, 1).key) for kind in ("ingest", "translate"))


@pytest.mark.parametrize("content", ["[]", "{", "9" * 5000, '{"kind": "ingest"}', "[" * 100_000])
def test_a_bad_manifest_stops_nothing(store: ArtifactStore, content: str) -> None:
    (store.root / "ingest" / KeyParts("ingest", 1).key / "manifest.json").write_text(content)
    assert "translate" in told(store, "status")
    told(store, "gc", "--dry-run", "--memory")


def test_a_registration_that_says_nothing_stops_nothing(store: ArtifactStore) -> None:
    parts = KeyParts("register", 1)
    with store.writing("register", parts) as draft:
        (draft.path / "version.json").write_text(json.dumps([]))
    assert "does not say where it went" in told(store, "status")
    told(store, "gc")
    assert store.find("register", parts.key)


def test_memories_behind_a_link_stay(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (store.workspace / "memory").mkdir()
    (store.workspace / "memory" / "link").symlink_to(tmp_path / "outside")
    told(store, "gc", "--memory")
    assert not (store.workspace / "memory" / "link").is_symlink()
    (store.workspace / "memory").rmdir()
    (store.workspace / "memory").symlink_to(tmp_path / "outside")
    told(store, "gc", "--memory")
    assert (tmp_path / "outside" / "deep").is_dir()
