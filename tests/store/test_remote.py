import dataclasses
import logging
import multiprocessing
import os
import shutil

import fsspec
import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.artifacts import MANIFEST
from mlc.store.remote import RemoteArtifacts

PARTS = KeyParts("stage", 1, settings={"x": 1})


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=pytest.mark.full)])
def url(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("bucket")
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
    return filesystem, f"{root}/artifacts/stage/{PARTS.key}"


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
    assert not there.place("stage", PARTS.key).exists()
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
    place = f"{folder}/{reference.sha256[:16]}/{name}"
    if content is None:
        filesystem.rm_file(place)
    else:
        filesystem.pipe_file(place, content)
    with caplog.at_level(logging.WARNING):
        assert there.find("stage", PARTS.key) is None
    assert ("in the storage is damaged" in caplog.text) == (content is not None)
    assert not there.place("stage", PARTS.key).exists()
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


def test_artifacts_of_earlier_releases_are_read(stores, files):
    here, there = stores
    reference = write(here)
    filesystem, folder = files
    for name in ("b.txt", "inner/a.txt"):
        content = filesystem.cat_file(f"{folder}/{reference.sha256[:16]}/{name}")
        filesystem.rm_file(f"{folder}/{reference.sha256[:16]}/{name}")
        if filesystem.protocol[0] == "file":
            filesystem.makedirs(f"{folder}/inner", exist_ok=True)
        filesystem.pipe_file(f"{folder}/{name}", content)
    assert there.find("stage", PARTS.key) == reference


def test_of_two_machines_that_make_it_at_once_the_first_one_counts(stores):
    here, there = stores
    with here.writing("stage", PARTS) as draft:
        (draft.path / "a.txt").write_text("here")
        with there.writing("stage", PARTS) as other:
            (other.path / "a.txt").write_text("there")
        first = there.reference("stage", PARTS.key)
    # What was made here after it gives way, and both go on from the same content.
    assert here.reference("stage", PARTS.key) == here.find("stage", PARTS.key) == first
    assert (here.folder(first) / "a.txt").read_text() == "there"
    assert there.find("stage", PARTS.key) == first


def test_what_was_made_without_the_storage_gives_way_to_what_is_there(stores):
    here, there = stores
    write(ArtifactStore(here.workspace), "made alone")
    first = write(there)
    assert here.find("stage", PARTS.key) == first
    assert (here.folder(first) / "inner" / "a.txt").read_text() == "content"


def test_what_each_workspace_has_for_itself_stays(stores):
    here, there = stores
    write(there)
    with here.writing("stage", PARTS, own=True) as draft:
        (draft.path / "a.txt").write_text("mine")
    mine = here.find("stage", PARTS.key, own=True)
    assert (here.folder(mine) / "a.txt").read_text() == "mine"
    theirs = there.find("stage", PARTS.key, own=True)
    assert (there.folder(theirs) / "inner" / "a.txt").read_text() == "content"


def test_an_input_that_another_machine_made_is_brought_when_it_is_opened(stores, url, tmp_path):
    here, there = stores
    reference = write(here)
    looking = ArtifactStore(tmp_path / "there", RemoteArtifacts(url), looking=True)
    assert not looking.folder(reference).exists()
    assert (there.folder(reference) / "b.txt").read_text() == "b"
    with pytest.raises(UserError, match=r"neither in the workspace .* nor whole in the storage"):
        there.folder(dataclasses.replace(reference, sha256="0" * 64))


@pytest.mark.parametrize("files_sent", [0, 1, 2])
def test_an_upload_that_is_killed_is_never_read(stores, monkeypatch, files_sent):
    """At every file, and before the manifest; the next attempt makes it whole."""
    here, there = stores
    sent = []
    put, declare = here.remote._put, here.remote._declare

    def killed(*arguments):
        if len(sent) == files_sent:
            raise KeyboardInterrupt
        sent.append(put(*arguments))

    monkeypatch.setattr(here.remote, "_put", killed)
    monkeypatch.setattr(here.remote, "_declare", killed)
    with pytest.raises(KeyboardInterrupt):
        write(here)
    assert there.glance("stage", PARTS.key) is None
    assert there.find("stage", PARTS.key) is None
    monkeypatch.setattr(here.remote, "_put", put)
    monkeypatch.setattr(here.remote, "_declare", declare)
    assert there.find("stage", PARTS.key) is None
    assert write(here) == there.find("stage", PARTS.key)


def machine(own, url, gate, told):
    store = ArtifactStore(own, RemoteArtifacts(url))
    gate.wait()
    for number in range(4):
        parts = KeyParts("stage", 1, settings={"number": number})
        with store.writing("stage", parts) as draft:
            for name in "abc":
                (draft.path / name).write_text(f"{own.name} {number}")
        ref = store.reference("stage", parts.key)
        assert store.find("stage", parts.key) == ref
        assert len({(store.folder(ref) / name).read_text() for name in "abc"}) == 1
        told.put((number, ref.sha256))


def test_two_processes_without_a_common_disk_agree_on_every_artifact(bucket, tmp_path):
    # A fork of this process would have the locks of its threads to the storage, and not the threads.
    fresh = multiprocessing.get_context("spawn")
    gate, told = fresh.Barrier(2), fresh.Queue()
    machines = [fresh.Process(target=machine, args=(tmp_path / name, bucket, gate, told)) for name in ("one", "two")]
    for each in machines:
        each.start()
    found = [told.get(timeout=60) for _ in range(8)]
    for each in machines:
        each.join(60)
    assert [each.exitcode for each in machines] == [0, 0]
    assert len(set(found)) == 4


def test_a_bucket_that_is_not_there_is_not_made(s3, tmp_path):
    store = ArtifactStore(tmp_path, RemoteArtifacts("s3://misspelt/mlc"))
    for ask in (lambda: store.glance("stage", PARTS.key), lambda: write(store)):
        with pytest.raises(UserError, match="'s3://misspelt/mlc' is not there: make the bucket, or change storage"):
            ask()
    assert not fsspec.filesystem("s3").exists("misspelt")
    assert ArtifactStore(tmp_path).find("stage", PARTS.key)


def test_wrong_credentials_are_told_without_them(bucket, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    store = ArtifactStore(tmp_path, RemoteArtifacts(bucket))
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(UserError, match=r"refuses access .*: check the credentials") as told,
    ):
        store.glance("stage", PARTS.key)
    assert "mlc-test" not in f"{told.value}"
    assert "mlc-test-secret" not in caplog.text


def test_missing_credentials_are_told(bucket, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    import s3fs

    remote = RemoteArtifacts(bucket)
    monkeypatch.setattr(remote, "_files", s3fs.S3FileSystem(skip_instance_cache=True))
    with pytest.raises(UserError, match=r"refuses access \((NoCredentialsError|PermissionError)\)"):
        remote.manifest("stage", PARTS.key)


def test_a_server_that_cannot_be_reached(s3, monkeypatch):
    import s3fs

    remote = RemoteArtifacts("s3://bucket/mlc")
    nowhere = s3fs.S3FileSystem(endpoint_url="http://127.0.0.1:9", skip_instance_cache=True)
    monkeypatch.setattr(remote, "_files", nowhere)
    with pytest.raises(UserError, match=r"cannot be reached \(EndpointConnectionError\)"):
        remote.manifest("stage", PARTS.key)


def test_a_storage_that_cannot_be_reached(stores, monkeypatch):
    here, _ = stores
    reference = write(here)

    def refuse(*_, **__):
        raise ConnectionError("refused")

    monkeypatch.setattr(here.remote, "_files", type("Broken", (), {"cat_file": refuse})())
    with pytest.raises(UserError, match=r"storage .* cannot be reached \(ConnectionError\)"):
        here.find("stage", PARTS.key)
    assert ArtifactStore(here.workspace).find("stage", PARTS.key) == reference
