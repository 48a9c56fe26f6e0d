"""Archives: what an export wrote arrives whole, and what others wrote does no harm."""

import dataclasses
import gzip
import io
import json
import os
import subprocess
import tarfile

import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.archives import CONTENTS_FILE, Limits, export_run, import_archive, telling_secrets
from mlc.store.housekeeping import artifacts_of
from mlc.store.runs import run_records
from tests.store.test_housekeeping import make, run

KINDS = ("a", "b")


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "workspace")


def taken(store, file, **how):
    return dataclasses.astuple(import_archive(store, file, kinds=KINDS, **how))


@pytest.fixture
def exported(store, tmp_path):
    refs = [make(store, "a", 1), make(store, "b", 2)]
    make(store, "a", 9)
    file = tmp_path / "run.tar.gz"
    assert export_run(store, run(store, refs, "run-id"), file) == 2
    return refs, file


@pytest.mark.parametrize("name", ["run.tar", "run.tgz"])
def test_a_run_travels_whole(store, tmp_path, name):
    refs = [make(store, "a", 1), make(store, "b", 2)]
    export_run(store, run(store, refs, "run-id"), tmp_path / name)
    there = ArtifactStore(tmp_path / "there")
    assert taken(there, tmp_path / name) == (2, 2, 0)
    assert [there.find(ref.kind, ref.key) for ref in refs] == refs
    (record,) = run_records(there.workspace)
    assert (record.id, artifacts_of([record])) == ("run-id", {(ref.kind, ref.key) for ref in refs})
    assert taken(there, tmp_path / name) == (0, 2, 0)
    assert len(run_records(there.workspace)) == 1
    assert list((there.root / ".drafts").iterdir()) == []


def test_an_import_makes_a_damaged_artifact_whole(exported, store):
    refs, file = exported
    (store.folder(refs[0]) / "inner" / "file.txt").write_text("damage")
    assert taken(store, file) == (1, 2, 0)
    assert store.find("a", refs[0].key) == refs[0]


def test_an_incomplete_run_is_not_exported(store, tmp_path):
    ref = make(store, "a", 1)
    record = run(store, [ref])
    (store.folder(ref) / "inner" / "file.txt").write_text("damage")
    with pytest.raises(UserError, match="of run 1 is not there or damaged"):
        export_run(store, record, tmp_path / "run.tar")
    assert not (tmp_path / "run.tar").exists()
    ref = make(store, "a", 1)
    with pytest.raises(UserError, match="cannot be written"):
        export_run(store, record, tmp_path / "no" / "run.tar")


def rewritten(file, change):
    """The archive with each member's content changed by a function of name and content; None leaves it out."""
    target = file.with_name("changed.tar")
    with tarfile.open(file) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else b""
            content = change(member.name, content) if member.isfile() else content
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


DAMAGES = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-40]) and file,
    "not an archive": lambda file: file.write_text("text") and file,
    "missing": lambda file: file.with_name("gone.tar"),
    "a changed file": lambda file: rewritten(file, lambda n, c: c[:-1] + b"x" if n.endswith("file.txt") else c),
    "a missing file": lambda file: rewritten(file, lambda n, c: None if n.endswith("file.txt") else c),
    "without contents": lambda file: rewritten(file, lambda n, c: None if n == "contents.json" else c),
    "of a later format": lambda file: rewritten(file, lambda n, c: c.replace(b'"format": 1', b'"format": 2')),
    "another key": lambda file: rewritten(file, lambda n, c: c.replace(b'"version": 1', b'"version": 7')),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_archive_changes_nothing(exported, tmp_path, damage):
    _, file = exported
    there = ArtifactStore(tmp_path / "there")
    with pytest.raises(UserError, match=r"archive|is damaged"):
        taken(there, damage(file))
    assert {path.name for path in there.root.iterdir()} <= {".drafts", ".damaged"}
    assert list((there.root / ".drafts").iterdir()) == []
    assert run_records(there.workspace) == []


@pytest.mark.parametrize("name", ["../../outside.txt", "/outside.txt"])
def test_an_archive_cannot_write_elsewhere(tmp_path, name):
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(UserError, match="cannot be read"):
        taken(ArtifactStore(tmp_path / "deep" / "there"), hostile)
    assert not list(tmp_path.rglob("outside.txt"))


def hostile(path, members, contents=None):
    """An archive of members, each a content by name, or a TarInfo by itself."""
    with tarfile.open(path, "w") as archive:
        listed = {"format": 1, "run": 1, "artifacts": []} if contents is None else contents
        for name, content in {CONTENTS_FILE: json.dumps(listed).encode(), **members}.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


ARTIFACTS = [
    ["../../../..", "memory"],
    ["..", "0" * 64],
    [".drafts", "0" * 64],
    ["a", ".."],
    ["a", "../../../../victim"],
    ["a/../../../victim", "0" * 64],
    ["a", "0" * 63 + "/"],
    ["a", "A" * 64],
    ["c", "0" * 64],
    ["/tmp", "0" * 64],
    [["a"], "0" * 64],
    [None, 5],
]


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=str)
def test_a_list_cannot_name_other_places(tmp_path, artifact):
    victim = tmp_path / "victim" / "file"
    victim.parent.mkdir()
    victim.write_text("x")
    there = ArtifactStore(tmp_path / "deep" / "there")
    file = hostile(tmp_path / "hostile.tar", {}, {"format": 1, "run": 1, "artifacts": [artifact]})
    before = sorted(path for path in tmp_path.rglob("*") if path != file)
    with pytest.raises(UserError, match="no artifact of a stage"):
        taken(there, file)
    assert sorted(path for path in tmp_path.rglob("*") if path != file) == before


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


KEY = "0" * 64
MEMBERS = {
    "symlink": link(f"artifacts/a/{KEY}/x", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": link(f"artifacts/a/{KEY}/x", tarfile.LNKTYPE, CONTENTS_FILE),
    "device": link(f"artifacts/a/{KEY}/x", tarfile.CHRTYPE, ""),
    "pipe": link(f"artifacts/a/{KEY}/x", tarfile.FIFOTYPE, ""),
    "elsewhere": tarfile.TarInfo("memory/x"),
    "above": tarfile.TarInfo(f"artifacts/a/{KEY}/../../x"),
    "a record of no number": tarfile.TarInfo("runs/x.jsonl"),
    "no key": tarfile.TarInfo("artifacts/a/x/y"),
    "twice": tarfile.TarInfo(CONTENTS_FILE),
    "NUL": tarfile.TarInfo(f"artifacts/a/{KEY}/a\nb"),
}


@pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
def test_members_that_no_export_writes_are_refused(tmp_path, member):
    there = ArtifactStore(tmp_path / "there")
    with pytest.raises(UserError, match="cannot be read"):
        taken(there, hostile(tmp_path / "hostile.tar", {"x": member}))
    assert list((there.root / ".drafts").iterdir()) == []


def test_only_declared_files_are_taken(exported, tmp_path):
    refs, file = exported
    with_stray = file.with_name("stray.tar")
    with tarfile.open(file) as old, tarfile.open(with_stray, "w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        info = tarfile.TarInfo(f"artifacts/a/{refs[0].key}/inner/EVIL.py")
        new.addfile(info, io.BytesIO())
    there = ArtifactStore(tmp_path / "there")
    assert taken(there, with_stray) == (2, 2, 1)
    assert [there.find(ref.kind, ref.key) for ref in refs] == refs
    assert not list(tmp_path.rglob("EVIL.py"))


def test_a_small_archive_that_unpacks_to_much_is_refused(tmp_path):
    there = ArtifactStore(tmp_path / "there")
    file = tmp_path / "bomb.tar.gz"
    with gzip.open(file, "wb", compresslevel=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo(f"artifacts/a/{KEY}/x")
        info.size = 3 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    limits = Limits(free_bytes=1 << 20)
    allowed = (1 << 20) + limits.ratio * file.stat().st_size
    with pytest.raises(UserError, match=rf"unpacks to more than {allowed} bytes, which is the limit"):
        taken(there, file, limits=limits)
    with pytest.raises(UserError, match=r"more than 1000000 bytes, which is the limit"):
        taken(there, file, limits=Limits(total_bytes=1_000_000))
    with pytest.raises(UserError, match=r"a file of more than 1000 bytes, which is the limit"):
        taken(there, file, limits=Limits(file_bytes=1000))
    assert list((there.root / ".drafts").iterdir()) == []


def test_too_many_files_are_refused(tmp_path, exported):
    with pytest.raises(UserError, match="more than 3 files, which is the limit"):
        taken(ArtifactStore(tmp_path / "there"), exported[1], limits=Limits(files=3))


def changed(old, new):
    return lambda file: rewritten(file, lambda name, content: content.replace(old, new))


FORGED = {
    "a record of another artifact": changed(b'"stage": "a"', b'"stage": "b"'),
    "a record with a line that is none": lambda file: rewritten(
        file, lambda name, content: content + b"5\n" if name.startswith("runs/") else content
    ),
    "other rows": changed(b'"rows": 1', b'"rows": 7'),
    "other facts": changed(b'"facts": {}', b'"facts": {"kept": 1}'),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_was_changed_on_the_way_is_noticed(exported, tmp_path, forge):
    there = ArtifactStore(tmp_path / "there")
    with pytest.raises(UserError, match="is damaged"):
        taken(there, forge(exported[1]))
    assert run_records(there.workspace) == []


def test_files_that_artifacts_share_travel_as_files(store, tmp_path):
    refs = [make(store, "a", 1), make(store, "b", 2)]
    first, second = (store.folder(ref) / "inner" / "file.txt" for ref in refs)
    os.link(first, first.with_name("other"))
    export_run(store, run(store, refs), tmp_path / "run.tar")
    with tarfile.open(tmp_path / "run.tar") as archive:
        assert all(member.isreg() for member in archive)
    assert second.is_file()
    assert taken(ArtifactStore(tmp_path / "there"), tmp_path / "run.tar") == (2, 2, 0)


@pytest.fixture
def keys(tmp_path):
    """Two private keys and their public ones, as openssl makes them."""
    made = []
    for name in ("mine", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        made.append((private, public))
    return made


def test_a_signed_archive_is_taken_from_who_signed_it(store, tmp_path, keys):
    (private, public), (_, other) = keys
    refs = [make(store, "a", 1), make(store, "b", 2)]
    record, file = run(store, refs), tmp_path / "run.tar"
    export_run(store, record, file, key_file=private)
    with pytest.raises(UserError, match="is not signed with that key"):
        taken(ArtifactStore(tmp_path / "there"), file, public_key=other)
    assert taken(ArtifactStore(tmp_path / "there"), file, public_key=public) == (2, 2, 0)
    # Whoever does not ask takes it as any other.
    assert taken(ArtifactStore(tmp_path / "elsewhere"), file) == (2, 2, 0)
    export_run(store, record, file)
    with pytest.raises(UserError, match="is not signed: "):
        taken(ArtifactStore(tmp_path / "there"), file, public_key=public)


def test_the_signature_is_over_the_manifests_and_the_record(store, tmp_path, keys):
    private, public = keys[0]
    export_run(store, run(store, [make(store, "a", 1)]), file := tmp_path / "run.tar", key_file=private)

    def forge(name, content):
        """Self-consistent: a manifest of an earlier release, which has no digest over all that it says."""
        if not name.endswith("manifest.json"):
            return content
        manifest = json.loads(content)
        del manifest["digest"]
        return json.dumps({**manifest, "facts": {"forged": True}}).encode()

    there = ArtifactStore(tmp_path / "there")
    with pytest.raises(UserError, match="is damaged"):
        taken(there, rewritten(file, forge), public_key=public)
    with pytest.raises(UserError, match="not signed with that key"):
        taken(there, changed(b'"run": 1', b'"run": 2')(file), public_key=public)
    with pytest.raises(UserError, match="is damaged"):
        taken(there, changed(b'"name": "x"', b'"name": "y"')(file), public_key=public)


@pytest.mark.parametrize("content", [b"", b"text", b"ssh-ed25519 AAAA", b"-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_files_that_are_no_keys(store, tmp_path, exported, content):
    (key := tmp_path / "key").write_bytes(content)
    with pytest.raises(UserError, match="holds no Ed25519 private key"):
        export_run(store, run_records(store.workspace)[0], tmp_path / "run.tar", key_file=key)
    with pytest.raises(UserError, match=r"holds no Ed25519 public key|is not signed"):
        taken(ArtifactStore(tmp_path / "there"), exported[1], public_key=key)
    with pytest.raises(UserError, match="cannot be read"):
        export_run(store, run_records(store.workspace)[0], tmp_path / "run.tar", key_file=tmp_path / "none")


def test_manifests_with_a_secret_are_told(store, tmp_path):
    refs = [make(store, "a", 1), make(store, "b", 2)]
    record = run(store, refs)
    assert telling_secrets(store, record) == []
    manifest = store.place("a", refs[0].key) / "manifest.json"
    said = json.loads(manifest.read_text())
    # As earlier releases left it, whose manifests have no digest of their own.
    del said["digest"]
    manifest.write_text(json.dumps({**said, "facts": {"tracking_uri": "https://me:hunter2@host"}}))
    assert telling_secrets(store, record) == [("a", refs[0].key)]
    assert export_run(store, record, tmp_path / "run.tar") == 2
