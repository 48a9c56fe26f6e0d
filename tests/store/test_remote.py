import dataclasses
import logging
import shutil

import fsspec
import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.artifacts import MANIFEST
from mlc.store.remote import RemoteArtifacts

PARTS = KeyParts("stage", 1, settings={"x": 1})


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    if request.param == "file":
        return (tmp_path / "storage").as_uri()
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return "memory://bucket/mlc"


@pytest.fixture
def stores(url, tmp_path):
    """The stores of two machines that have the storage in common."""
    return [ArtifactStore(tmp_path / name, RemoteArtifacts(url)) for name in ("here", "there")]


@pytest.fixture
def files(url):
    """Reads and writes the storage past the store."""
    filesystem, root = fsspec.core.url_to_fs(url)
    folder = f"{root}/artifacts/stage/{PARTS.key}"
    return filesystem, folder


def write(store, text="content"):
    with store.writing("stage", PARTS) as draft:
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "a.txt").write_text(text)
        (draft.path / "b.txt").write_text("b")
        draft.rows = 3
    return store.reference("stage", PARTS.key)


def test_what_one_machine_made_the_other_has(stores):
    here, there = stores
    assert there.find("stage", PARTS.key) is None
    reference = write(here)
    assert there.glance("stage", PARTS.key) == reference
    assert there.manifest("stage", PARTS.key)["parts"] == dataclasses.asdict(PARTS)
    # Looking brings nothing over.
    assert not there.folder(reference).exists()
    assert there.find("stage", PARTS.key) == reference
    assert (there.folder(reference) / "inner" / "a.txt").read_text() == "content"
    assert list((there.root / ".drafts").iterdir()) == []


def test_a_lost_workspace_comes_back(stores):
    here, _ = stores
    reference = write(here)
    shutil.rmtree(here.root / "stage")
    assert here.find("stage", PARTS.key) == reference


def test_a_damaged_artifact_comes_back_whole(stores, caplog):
    here, _ = stores
    reference = write(here)
    (here.folder(reference) / "b.txt").write_text("x")
    assert here.find("stage", PARTS.key) == reference
    assert (here.folder(reference) / "b.txt").read_text() == "b"


def test_what_was_made_before_there_was_a_storage_is_copied_when_it_is_used(stores, tmp_path):
    here, there = stores
    write(ArtifactStore(here.workspace))
    assert there.find("stage", PARTS.key) is None
    assert here.find("stage", PARTS.key)
    assert there.find("stage", PARTS.key)


@pytest.mark.parametrize("name", ["b.txt", "inner/a.txt"])
@pytest.mark.parametrize("content", [b"x", b"", None], ids=["changed", "cut off", "gone"])
def test_damage_in_the_storage_is_not_taken_over(stores, files, caplog, name, content):
    here, there = stores
    reference = write(here)
    filesystem, folder = files
    if content is None:
        filesystem.rm_file(f"{folder}/{name}")
    else:
        filesystem.pipe_file(f"{folder}/{name}", content)
    with caplog.at_level(logging.WARNING):
        assert there.find("stage", PARTS.key) is None
    assert ("in the storage is damaged" in caplog.text) == (content is not None)
    assert not there.folder(reference).exists()
    # Made again, it is whole in both places.
    assert write(there) == reference
    shutil.rmtree(here.root / "stage")
    assert here.find("stage", PARTS.key) == reference


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"{}", None])
def test_an_upload_that_was_cut_off_is_not_seen(stores, files, content):
    here, there = stores
    write(here)
    filesystem, folder = files
    filesystem.rm_file(f"{folder}/{MANIFEST}")
    if content is not None:
        filesystem.pipe_file(f"{folder}/{MANIFEST}", content)
    assert there.glance("stage", PARTS.key) is None
    assert there.find("stage", PARTS.key) is None


def test_a_name_that_leads_elsewhere_is_refused(stores, files, tmp_path):
    here, there = stores
    write(here)
    filesystem, folder = files
    text = filesystem.cat_file(f"{folder}/{MANIFEST}").decode()
    filesystem.pipe_file(f"{folder}/{MANIFEST}", text.replace('"b.txt"', '"../../../../b.txt"').encode())
    assert there.find("stage", PARTS.key) is None
    assert not list(tmp_path.glob("**/there/b.txt"))


@pytest.mark.parametrize("url", ["nothing://x", "s4://bucket"])
def test_a_url_of_no_known_kind(url):
    with pytest.raises(UserError, match=r"storage .* cannot be used"):
        RemoteArtifacts(url)


def test_a_storage_that_cannot_be_reached(stores, monkeypatch):
    here, _ = stores
    reference = write(here)

    def refuse(*_, **__):
        raise ConnectionError("refused")

    monkeypatch.setattr(here.remote, "_files", type("Broken", (), {"cat_file": refuse})())
    with pytest.raises(UserError, match=r"storage .* cannot be reached \(ConnectionError\)"):
        here.find("stage", PARTS.key)
    assert ArtifactStore(here.workspace).find("stage", PARTS.key) == reference
