"""A result that a person keeps: the same files under another key, and what the manifest says of it."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.store.archives import export_run, import_archive
from mlc.store.artifacts import MANIFEST
from mlc.store.hashing import digest_data
from mlc.store.housekeeping import artifacts_of, garbage, remove
from mlc.store.keeping import Kept, find_keepable, keep, kept_notes, kept_sentences
from mlc.store.remote import RemoteArtifacts
from mlc.store.runs import recorded, run_records

OLD = KeyParts(
    "align",
    1,
    settings={"align": {"steps": 3}},
    inputs={"examples": "a" * 64},
    sources={"mlc/losses/consistency.py": "b" * 64},
    libraries={"torch": "2.13"},
    models={"policy": "c" * 64},
    seed=0,
    rule=2,
)
NEW = dataclasses.replace(OLD, sources={"mlc/losses/consistency.py": "d" * 64}, libraries={"torch": "2.14"})
TWICE = dataclasses.replace(NEW, version=2)
FACTS = {"language": None, "subject": "consistency · seed 0", "effort": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "workspace")


def make(
    store: ArtifactStore, parts: KeyParts = OLD, text: str = "weights", subject: str = FACTS["subject"]
) -> ArtifactRef:
    with store.writing(parts.stage, parts) as draft:
        (draft.path / "checkpoint").mkdir()
        (draft.path / "checkpoint" / "model.bin").write_text(text * 1000)
        draft.facts |= {**FACTS, "subject": subject}
    return store.reference(parts.stage, parts.key)


def note(old: KeyParts, new: KeyParts, when: str = "2126-11-27T10:00:00.5+00:00") -> Kept:
    return Kept("ann", when, "only a name changed", old.key, new.key, new.differences(old))


def test_the_files_and_their_digest_are_the_same_under_both_keys(store: ArtifactStore) -> None:
    old = make(store)
    assert keep(store, NEW, note(OLD, NEW))
    new = store.find("align", NEW.key)
    assert new is not None
    assert (new.sha256, new.rows) == (old.sha256, old.rows)
    assert store.find("align", OLD.key) == old
    before, after = store.manifest("align", OLD.key), store.manifest("align", NEW.key)
    assert KeyParts(**after["parts"]).key == after["key"] == NEW.key
    assert {name for name in after if before.get(name) != after[name]} == {"key", "parts", "kept", "digest"}
    assert after["kept"] == [
        {
            "by": "ann",
            "when": "2126-11-27T10:00:00.5+00:00",
            "reason": "only a name changed",
            "old_key": OLD.key,
            "key": NEW.key,
            "differences": ["library torch 2.13 → 2.14", "source file mlc/losses/consistency.py changed"],
        }
    ]
    assert not list((store.root / ".drafts").iterdir())


def test_the_second_keeping_is_added_to_the_first(store: ArtifactStore) -> None:
    make(store)
    keep(store, NEW, note(OLD, NEW))
    keep(store, TWICE, note(NEW, TWICE, "2126-11-28T10:00:00.5+00:00"))
    kept = kept_notes(store.manifest("align", TWICE.key))
    assert [(one.old_key, one.key) for one in kept] == [(OLD.key, NEW.key), (NEW.key, TWICE.key)]
    assert [manifest["key"] for manifest in store.manifests("align")] == [OLD.key, NEW.key, TWICE.key]


def test_what_is_there_under_the_new_key_stays(store: ArtifactStore) -> None:
    make(store)
    own = make(store, NEW, "trained again")
    assert keep(store, NEW, note(OLD, NEW))
    assert store.find("align", NEW.key) == own
    assert kept_notes(store.manifest("align", NEW.key)) == []


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "no manifest"])
def test_a_damaged_artifact_is_not_kept(store: ArtifactStore, harm: str) -> None:
    file = store.folder(make(store)) / "checkpoint" / "model.bin"
    text = file.read_text()
    if harm == "gone":
        file.unlink()
    elif harm == "no manifest":
        (store.root / "align" / OLD.key / MANIFEST).unlink()
    else:
        file.write_text(text[:-1] if harm == "cut" else f"W{text[1:]}")
    assert not keep(store, NEW, note(OLD, NEW))
    assert store.find("align", NEW.key) is None
    assert not (store.root / "align" / NEW.key).exists()


def test_damage_that_comes_later_is_seen_under_both_keys(store: ArtifactStore) -> None:
    old = make(store)
    keep(store, NEW, note(OLD, NEW))
    file = store.folder(old) / "checkpoint" / "model.bin"
    file.write_text(f"W{file.read_text()[1:]}")
    assert store.find("align", NEW.key) is None
    assert store.find("align", OLD.key) is None


def test_files_are_copied_where_a_disk_has_no_second_names(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "not on this file system")

    old = make(store)
    monkeypatch.setattr(os, "link", refuse)
    assert keep(store, NEW, note(OLD, NEW))
    kept = store.find("align", NEW.key)
    assert kept is not None
    assert kept.sha256 == old.sha256


def test_the_storage_has_it_under_both_keys(tmp_path: Path) -> None:
    url = (tmp_path / "storage").as_uri()
    here, there = (ArtifactStore(tmp_path / name, RemoteArtifacts(url)) for name in ("here", "there"))
    old = make(here)
    keep(here, NEW, note(OLD, NEW))
    found = there.find("align", NEW.key)
    assert found is not None
    assert found.sha256 == old.sha256
    assert kept_notes(there.manifest("align", NEW.key)) == [note(OLD, NEW)]
    assert there.find("align", OLD.key) == old


# What may be kept.


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({"sources": {}}, ["source file mlc/losses/consistency.py is gone"]),
        ({"libraries": {"torch": "2.14"}}, ["library torch 2.13 → 2.14"]),
        ({"version": 2}, ["stage version 1 → 2"]),
        ({"rule": 3, "sources": {}}, ["keys are made in another way since this release"]),
    ],
)
def test_code_and_libraries_may_differ(store: ArtifactStore, change: dict[str, object], differences: list[str]) -> None:
    make(store)
    found = find_keepable(store, dataclasses.replace(OLD, **change), None, FACTS["subject"])
    assert found is not None
    assert (found.key, found.allowed, found.differences) == (OLD.key, True, differences)


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({"settings": {"align": {"steps": 4}}}, ["configuration align.steps 3 → 4"]),
        ({"inputs": {"examples": "e" * 64}}, ["input examples changed"]),
        ({"models": {"policy": "e" * 64}}, ["model policy changed"]),
        ({"seed": 1}, ["seed 0 → 1"]),
    ],
)
def test_other_work_is_never_kept(store: ArtifactStore, change: dict[str, object], differences: list[str]) -> None:
    make(store)
    found = find_keepable(store, dataclasses.replace(NEW, **change), None, FACTS["subject"])
    assert found is not None
    assert (found.allowed, found.differences) == (False, differences)


def test_the_newest_that_may_be_kept_is_found_behind_other_work(store: ArtifactStore) -> None:
    make(store, dataclasses.replace(OLD, libraries={"torch": "2.12"}), "older")
    make(store)
    make(store, dataclasses.replace(OLD, settings={"align": {"steps": 9}}), "other work")
    found = find_keepable(store, NEW, None, FACTS["subject"])
    assert found is not None
    assert (found.key, found.allowed) == (OLD.key, True)
    assert find_keepable(store, NEW, "spa_Latn", FACTS["subject"]) is None
    assert find_keepable(store, NEW, None, "english-only · seed 0") is None


def test_an_artifact_of_the_first_rule_may_be_kept(store: ArtifactStore) -> None:
    """By hand, as releases before the rule had a number wrote it: all source files, machinery among them."""
    folder = store.folder(make(store))
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["parts"]["rule"], manifest["digest"]
    manifest["parts"]["sources"] = dict.fromkeys(("mlc/errors.py", "tasks/files.py", "tasks/align.py"), "f" * 64)
    manifest["key"] = digest_data(manifest["parts"])
    (folder / MANIFEST).write_text(json.dumps(manifest))
    folder.rename(folder.with_name(manifest["key"]))
    found = find_keepable(store, OLD, None, FACTS["subject"])
    assert found is not None
    assert found.key == manifest["key"]
    assert found.differences == ["keys are made in another way since this release"]
    old = KeyParts(**manifest["parts"])
    assert keep(store, OLD, note(old, OLD))
    assert store.find("align", OLD.key) is not None
    assert store.find("align", manifest["key"]) is not None


# Housekeeping.


def run(store: ArtifactStore, *parts: KeyParts) -> None:
    with recorded(store.workspace, run_id="", name="x", config={}) as journal:
        for one in parts:
            journal.write({"task": {"stage": one.stage, "key": one.key, "language": None, "subject": None}})


def names(store: ArtifactStore, *runs: int) -> dict[str, int]:
    records = [record for record in run_records(store.workspace) if record.number in runs]
    return {item.path.name: item.bytes for item in garbage(store, artifacts_of(records), unfinished=False)}


def test_what_was_kept_stays_as_long_as_what_it_was_kept_from(store: ArtifactStore) -> None:
    make(store)
    run(store, OLD)
    keep(store, NEW, note(OLD, NEW))
    keep(store, TWICE, note(NEW, TWICE))
    # No run has read the kept ones yet.
    assert set(names(store, 1)) - {f"align-{key[:32]}.lock" for key in (NEW.key, TWICE.key)} == set()


def test_shared_files_count_when_their_last_name_goes(store: ArtifactStore) -> None:
    make(store)
    keep(store, NEW, note(OLD, NEW))
    run(store, NEW)
    weights = len("weights") * 1000
    (old,) = (size for name, size in names(store, 1).items() if name == OLD.key)
    assert 0 < old < weights
    sizes = names(store)
    assert weights < sizes[OLD.key] + sizes[NEW.key] < 2 * weights
    remove(store, garbage(store, {("align", NEW.key)}, unfinished=False))
    assert store.find("align", NEW.key) is not None
    assert store.find("align", OLD.key) is None


def test_it_travels_in_an_archive(store: ArtifactStore, tmp_path: Path) -> None:
    make(store)
    keep(store, NEW, note(OLD, NEW))
    run(store, OLD, NEW)  # both names of the files in one archive
    (record,) = run_records(store.workspace)
    assert export_run(store, record, tmp_path / "run.tar") == 2
    other = ArtifactStore(tmp_path / "other")
    assert import_archive(other, tmp_path / "run.tar", kinds=["align"]).new == 2
    assert kept_notes(other.manifest("align", NEW.key)) == [note(OLD, NEW)]
    assert other.find("align", NEW.key) is not None


def test_what_a_report_says(store: ArtifactStore) -> None:
    make(store)
    other, kept = (dataclasses.replace(parts, seed=1) for parts in (OLD, NEW))
    make(store, other, subject="consistency · seed 1")
    keep(store, NEW, note(OLD, NEW))
    keep(store, kept, note(other, kept))
    artifacts = [("align", parts.key) for parts in (NEW, kept, OLD)]
    assert kept_sentences(store, artifacts) == (
        "align (consistency · seed 0, consistency · seed 1) was kept by ann on 2126-11-27: only a name changed",
    )
    assert kept_sentences(store, [("align", OLD.key)]) == ()
