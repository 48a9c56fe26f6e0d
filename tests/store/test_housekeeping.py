import pytest

from mlc.store import ArtifactStore, KeyParts
from mlc.store.housekeeping import artifacts_of, direct_inputs, garbage, kept_runs, remove
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
    (store.fetched / "model-1").mkdir(parents=True)
    partial = store.partial("align", "k" * 64)
    partial.mkdir(parents=True)
    with store.making("a", "k"):
        pass
    assert sorted(item.what for item in garbage(store, set(), unfinished=False)) == [
        "damaged",
        "draft",
        "fetched",
        "lock",
    ]
    remove(store, garbage(store, set(), unfinished=True))
    assert not partial.exists()


def test_inputs_are_found_by_content(store):
    prompts = make(store, "ingest", 1)
    model = make(store, "align", 2, [prompts])
    version = make(store, "register", 3, [model])
    assert direct_inputs(store, [("register", version.key)]) == {("align", model.key)}
    assert direct_inputs(store, [("ingest", prompts.key)]) == set()


def test_links_go_as_links_and_what_they_lead_to_stays(store, tmp_path):
    outside = tmp_path / "outside"
    for name in ("a", "b"):
        (outside / name / KeyParts("a", 1).key).mkdir(parents=True)
    (outside / "file").write_text("x")
    make(store, "a", 1)
    (store.root / "a" / ("0" * 64)).symlink_to(outside)
    (store.root / "b").symlink_to(outside / "b")
    (store.root / ".damaged" / "x").symlink_to(outside / "a")
    (store.root / ".partial").symlink_to(outside)
    (store.root / "a" / "notes of mine").mkdir()
    before = sorted(outside.rglob("*"))
    found = garbage(store, set(), unfinished=True)
    assert [item.what for item in found] == ["a", "a", "damaged"]
    remove(store, found)
    assert sorted(outside.rglob("*")) == before
    assert [path.name for path in (store.root / "a").iterdir()] == ["notes of mine"]
    assert list((store.root / ".damaged").iterdir()) == []


def test_linked_drafts_of_others_are_not_cleared(tmp_path):
    outside = tmp_path / "outside"
    (outside / "draft").mkdir(parents=True)
    store = ArtifactStore(tmp_path / "workspace")
    (store.root / ".drafts").rmdir()
    (store.root / ".drafts").symlink_to(outside)
    store.clear_drafts()
    assert (outside / "draft").is_dir()
