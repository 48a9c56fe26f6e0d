import io
import tarfile

import pytest

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.housekeeping import artifacts_of, direct_inputs, export_run, garbage, import_archive, kept_runs, remove
from mlc.store.runs import RunRecord, recorded, run_records


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "workspace")


def make(store, kind, number, inputs=()):
    parts = KeyParts(kind, number, inputs={ref.kind: ref.sha256 for ref in inputs})
    with store.writing(kind, parts) as draft:
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "file.txt").write_text(f"{kind} {number}" * 10)
        draft.rows = number
    return store.reference(kind, parts.key)


def run(store, refs, run_id=""):
    with recorded(store.workspace, run_id=run_id, name="x", config={}) as journal:
        for ref in refs:
            journal.write({"task": {"stage": ref.kind, "key": ref.key, "language": None, "subject": None}})
    return run_records(store.workspace)[-1]


def records(*ends):
    return [RunRecord(number, "", "x", "", end=end) for number, end in enumerate(ends, start=1)]


@pytest.mark.parametrize(
    ("ends", "count", "kept"),
    [
        (["completed"] * 4, 2, [3, 4]),
        (["completed"] * 2, 5, [1, 2]),
        (["completed", "failed", "completed", "failed"], 1, [3, 4]),
        (["completed", "completed", "failed", None, "failed"], 1, [2, 3, 4, 5]),
        (["completed", None, "completed"], 2, [1, 2, 3]),
        (["failed", None], 1, [1, 2]),
        ([], 1, []),
    ],
)
def test_which_runs_are_kept(ends, count, kept):
    assert [record.number for record in kept_runs(records(*ends), count)] == kept


def test_only_what_nothing_needs_goes(store):
    old, shared, new = make(store, "a", 1), make(store, "a", 2), make(store, "b", 3)
    first, second = run(store, [old, shared]), run(store, [shared, new])
    found = garbage(store, artifacts_of([second]), unfinished=False)
    assert [(item.what, item.path.name) for item in found] == [("a", old.key)]
    assert found[0].bytes == sum(f.stat().st_size for f in store.folder(old).rglob("*") if f.is_file())
    remove(store, found)
    assert [store.find(ref.kind, ref.key) for ref in (old, shared, new)] == [None, shared, new]
    assert list((store.root / ".drafts").iterdir()) == []
    assert garbage(store, artifacts_of([first, second]), unfinished=True) == []


def test_damaged_ones_and_drafts_go_and_unfinished_work_on_demand(store):
    (store.folder(make(store, "a", 1)) / "inner" / "file.txt").write_text("damage")
    assert store.find("a", KeyParts("a", 1).key) is None
    (store.root / ".drafts" / "x").mkdir()
    partial = store.partial("align", "k" * 64)
    partial.mkdir(parents=True)
    with store.making("a", "k"):
        pass
    assert sorted(item.what for item in garbage(store, set(), unfinished=False)) == ["damaged", "draft", "lock"]
    remove(store, garbage(store, set(), unfinished=True))
    assert not partial.exists()


def test_inputs_are_found_by_content(store):
    prompts = make(store, "ingest", 1)
    model = make(store, "align", 2, [prompts])
    version = make(store, "register", 3, [model])
    assert direct_inputs(store, [("register", version.key)]) == {("align", model.key)}
    assert direct_inputs(store, [("ingest", prompts.key)]) == set()


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
    assert import_archive(there, tmp_path / name) == (2, 2)
    assert [there.find(ref.kind, ref.key) for ref in refs] == refs
    (record,) = run_records(there.workspace)
    assert (record.id, artifacts_of([record])) == ("run-id", {(ref.kind, ref.key) for ref in refs})
    assert import_archive(there, tmp_path / name) == (0, 2)
    assert len(run_records(there.workspace)) == 1
    assert list((there.root / ".drafts").iterdir()) == []


def test_an_import_makes_a_damaged_artifact_whole(exported, store):
    refs, file = exported
    (store.folder(refs[0]) / "inner" / "file.txt").write_text("damage")
    assert import_archive(store, file) == (1, 2)
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
        import_archive(there, damage(file))
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
        import_archive(ArtifactStore(tmp_path / "deep" / "there"), hostile)
    assert not list(tmp_path.rglob("outside.txt"))
