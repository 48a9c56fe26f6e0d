"""Faults of the disk and of the clock, on the store alone: an error, or all of it, and never a half."""

import datetime
import errno
import json
import logging
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts, artifacts
from mlc.store.housekeeping import artifacts_of, kept_runs
from mlc.store.runs import recorded, run_records

PARTS = KeyParts("stage", 1)


def write(store, parts=PARTS):
    with store.writing(parts.stage, parts) as draft:
        for name in ("a", "b"):
            (draft.path / f"{name}.txt").write_text(name * 1000)
    return store.find(parts.stage, parts.key)


def shown(store):
    return [path for path in store.root.rglob("*") if path.is_file() and ".locks" not in path.parts]


def failing(monkeypatch, place, name, number, code):
    """Makes one call of a function fail, the ``number``-th one; tells how many calls there were."""
    real, calls = getattr(place, name), []

    def call(*arguments, **options):
        calls.append(None)
        if len(calls) == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(place, name, call)
    return calls


def failure_of(store):
    try:
        write(store)
    except UserError as error:
        return error
    return None


CALLS = [(os, "fsync"), (Path, "write_text"), (Path, "mkdir"), (Path, "rename"), (Path, "replace")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(("place", "name"), CALLS, ids=[name for _, name in CALLS])
def test_a_disk_that_fails_at_any_call(tmp_path, monkeypatch, place, name, code):
    store = ArtifactStore(tmp_path / "workspace")
    failures = 0
    for number in range(1, 20):
        with monkeypatch.context() as patch:
            calls = failing(patch, place, name, number, code)
            problem = failure_of(store)
            done = len(calls) < number
        if problem is not None:
            failures += 1
            assert os.strerror(code) in str(problem)
            assert (problem.about == "full workspace") == (code in (errno.ENOSPC, errno.EDQUOT))
        if done:
            break
        # What is there is whole, and the next attempt succeeds.
        assert (store.find("stage", PARTS.key) is None) == (shown(store) == [])
        assert write(store) is not None
        shutil.rmtree(store.root / "stage")
    assert done
    assert failures
    assert list((store.root / ".damaged").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(small_disk):
    store = ArtifactStore(small_disk / "workspace")
    whole = write(store)
    large = KeyParts("stage", 2)

    def write_much():
        with store.writing("stage", large) as draft:
            (draft.path / "large.bin").write_bytes(b"x" * 200_000)

    with pytest.raises(UserError, match=r"No space left on device.*make room"):
        write_much()
    assert store.find("stage", large.key) is None
    assert store.find("stage", PARTS.key) == whole
    # The draft has gone, so there is room again.
    assert write(store, KeyParts("stage", 3)) is not None


def test_a_folder_that_may_only_be_read(small_disk):
    place = small_disk / "workspace"
    store = ArtifactStore(place)
    whole = write(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    # What is there is served, and anything else is refused in a sentence.
    assert store.find("stage", PARTS.key) == whole
    with pytest.raises(UserError, match="Read-only file system"):
        write(store, KeyParts("stage", 2))
    with pytest.raises(UserError, match="Read-only file system"):
        ArtifactStore(small_disk / "another")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_every_single_bit_counts(tmp_path, caplog):
    store = ArtifactStore(tmp_path)
    with store.writing("stage", PARTS) as draft:
        (draft.path / "a.txt").write_bytes(b"ab")
    path = store.root / "stage" / PARTS.key / "a.txt"
    kept = tmp_path / "kept"
    shutil.copytree(path.parent, kept)
    for bit in range(16):
        content = bytearray(b"ab")
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        assert store.find("stage", PARTS.key) is None
        shutil.copytree(kept, path.parent)
    assert store.find("stage", PARTS.key) is not None


def table(store):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with store.writing("stage", PARTS) as draft:
        pq.write_table(pa.table({"id": ["a", "b"], "n": [1, 2]}), draft.path / "table.parquet")
        draft.rows = 2
    return store.root / "stage" / PARTS.key / artifacts.MANIFEST


def test_a_manifest_notes_rows_and_columns_of_tables(tmp_path):
    store = ArtifactStore(tmp_path)
    table(store)
    facts = store.manifest("stage", PARTS.key)["files"]["table.parquet"]
    assert (facts["rows"], facts["columns"]) == (2, {"id": "string", "n": "int64"})


@pytest.mark.parametrize(
    ("old", "new"), [('"rows": 2,\n   "columns"', '"rows": 3,\n   "columns"'), ('"n": "int64"', '"n": "double"')]
)
def test_a_table_with_other_rows_or_columns_is_damaged(tmp_path, caplog, old, new):
    store = ArtifactStore(tmp_path)
    manifest = table(store)
    text = manifest.read_text()
    assert old in text
    # As earlier releases left it, whose manifests have no digest of their own.
    changed = json.loads(text.replace(old, new))
    del changed["digest"]
    manifest.write_text(json.dumps(changed))
    with caplog.at_level(logging.WARNING):
        assert store.find("stage", PARTS.key) is None
    assert "other rows or columns" in caplog.text


def test_a_clock_that_is_set_back(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path)

    def run(number):
        with recorded(tmp_path, run_id=str(number), name="x", config={}) as journal:
            ref = write(store, KeyParts("stage", number))
            journal.write({"task": {"stage": "stage", "key": ref.key}})
        return ref.key

    run(1)
    past = SimpleNamespace(now=lambda zone: datetime.datetime(2001, 1, 1, tzinfo=zone))
    monkeypatch.setattr(artifacts, "datetime", past)
    monkeypatch.setattr("mlc.store.runs.datetime", past)
    last = run(2)
    records = run_records(tmp_path)
    assert [record.id for record in records] == ["1", "2"]
    assert records[1].started < records[0].started
    # Housekeeping goes by the order of runs, not by their times.
    assert artifacts_of(kept_runs(records, 1)) == {("stage", last)}
    assert store.find("stage", last) is not None
