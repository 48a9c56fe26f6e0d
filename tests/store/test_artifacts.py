import dataclasses
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlc.errors import UserError
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.store.artifacts import MANIFEST
from tests.privileges import obey_permissions

PARTS = KeyParts("stage", 1, settings={"x": 1})


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "workspace")


def write(store, parts=PARTS, text="content", rows=3):
    with store.writing("stage", parts) as draft:
        (draft.path / "table.txt").write_text(text)
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "more.txt").write_text("more")
        draft.rows = rows
        draft.facts = {"kept": 2}
    return store.find("stage", parts.key)


def visible(store):
    return [path for path in (store.root / "stage").rglob("*") if path.is_file()] if store.root.exists() else []


def aside(store):
    return sorted((store.root / ".damaged").iterdir())


def test_what_was_written_is_found(store):
    assert store.find("stage", PARTS.key) is None
    reference = write(store)
    assert (reference.kind, reference.key, reference.rows) == ("stage", PARTS.key, 3)
    assert reference.path == f"artifacts/stage/{PARTS.key}"
    assert store.folder(reference) == store.root / "stage" / PARTS.key
    assert (store.folder(reference) / "table.txt").read_text() == "content"
    assert (store.folder(reference) / "inner" / "more.txt").read_text() == "more"
    assert store.reference("stage", PARTS.key) == reference
    assert aside(store) == []
    assert list((store.root / ".drafts").iterdir()) == []


def test_the_manifest_says_what_was_made_from_what(store):
    write(store)
    manifest = store.manifest("stage", PARTS.key)
    assert KeyParts(**manifest["parts"]) == PARTS
    assert manifest["files"].keys() == {"table.txt", "inner/more.txt"}
    assert manifest["files"]["table.txt"] == {
        "bytes": 7,
        # sha256 of "content"
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }
    assert (manifest["rows"], manifest["facts"]) == (3, {"kept": 2})


def test_the_digest_is_of_the_content_alone(store, tmp_path):
    first = write(store)
    other = write(store, dataclasses.replace(PARTS, version=2))
    changed = write(store, dataclasses.replace(PARTS, version=3), text="Content")
    elsewhere = write(ArtifactStore(tmp_path / "elsewhere"))
    assert first.sha256 == other.sha256 == elsewhere.sha256 != changed.sha256


def weights(store, version, content, stage="stage"):
    parts = KeyParts(stage, version)
    with store.writing(stage, parts) as draft:
        (draft.path / "checkpoint").mkdir()
        (draft.path / "checkpoint" / "weights").write_bytes(content)
        (draft.path / "small").write_bytes(b"small")
    return store.folder(store.find(stage, parts.key))


LARGE = bytes(1 << 20)


def test_a_large_file_lies_on_the_disk_once_for_all_artifacts_of_a_stage(store):
    first, second, other = (
        weights(store, version, content) for version, content in enumerate([LARGE] * 2 + [b"x" * 2**20])
    )
    elsewhere = weights(store, 0, LARGE, stage="another")
    assert (first / "checkpoint" / "weights").samefile(second / "checkpoint" / "weights")
    assert not (first / "small").samefile(second / "small")
    assert (other / "checkpoint" / "weights").stat().st_nlink == 1
    assert (elsewhere / "checkpoint" / "weights").stat().st_nlink == 1
    assert list((store.root / ".drafts").iterdir()) == []


@pytest.mark.parametrize("harm", ["damaged", "gone", "linked away"])
def test_a_file_is_shared_only_while_it_is_whole(store, tmp_path, harm):
    file = weights(store, 0, LARGE) / "checkpoint" / "weights"
    if harm == "damaged":
        file.write_bytes(b"x" + LARGE[1:])
    else:
        moved = file.rename(tmp_path / "moved")
        if harm == "linked away":
            file.symlink_to(moved)
    second = weights(store, 1, LARGE) / "checkpoint" / "weights"
    assert second.read_bytes() == LARGE
    assert not second.is_symlink()
    assert second.stat().st_nlink == 1


def test_an_error_while_writing_leaves_nothing(store):
    def fail_halfway():
        with store.writing("stage", PARTS) as draft:
            (draft.path / "table.txt").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_halfway()
    assert store.find("stage", PARTS.key) is None
    assert visible(store) == []
    assert list((store.root / ".drafts").iterdir()) == []


def test_nothing_is_visible_while_it_is_being_written(store):
    with store.writing("stage", PARTS) as draft:
        (draft.path / "table.txt").write_text("half")
        assert store.find("stage", PARTS.key) is None
        assert store.manifests("stage") == []
        assert visible(store) == []


def test_the_first_of_two_equal_artifacts_stays(store):
    first = write(store, text="first")
    assert write(store, text="second") == first
    assert (store.folder(first) / "table.txt").read_text() == "first"
    assert aside(store) == []
    assert list((store.root / ".drafts").iterdir()) == []


def edit_manifest(*, sealed=True, **changes):
    """Changes fields of a manifest; without its seal it is one of an earlier release, which had no digest over all."""

    def edit(folder):
        manifest = {**json.loads((folder / MANIFEST).read_text()), **changes}
        if not sealed:
            del manifest["digest"]
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return edit


DAMAGES = {
    "changed byte": (lambda folder: (folder / "table.txt").write_text("conteNt"), "table.txt has changed"),
    "cut file": (lambda folder: (folder / "table.txt").write_text("cont"), "table.txt has changed"),
    "missing file": (lambda folder: (folder / "inner" / "more.txt").unlink(), "inner/more.txt is missing"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "no manifest"),
    "empty manifest": (lambda folder: (folder / MANIFEST).write_text(""), "is damaged"),
    "cut manifest": (lambda folder: (folder / MANIFEST).write_text('{"kind": "st'), "is damaged"),
    "manifest is no object": (lambda folder: (folder / MANIFEST).write_text("[]"), "is damaged"),
    "manifest is null": (lambda folder: (folder / MANIFEST).write_text("null"), "is damaged"),
    "manifest without files": (lambda folder: (folder / MANIFEST).write_text("{}"), "is damaged"),
    "another key": (edit_manifest(sealed=False, key="ab" * 32), "belongs to another artifact"),
    "another kind": (edit_manifest(sealed=False, kind="translate"), "belongs to another artifact"),
    "another digest": (edit_manifest(sealed=False, sha256="ab" * 32), "digest does not match"),
    "other facts": (edit_manifest(facts={"kept": 3}), "manifest has changed"),
    "other rows": (edit_manifest(rows=4), "manifest has changed"),
    "another field": (edit_manifest(sealed=False, dgest="ab" * 32), "fields that no manifest has"),
    "a name that leads out": (edit_manifest(sealed=False, files={"../x": {"bytes": 1, "sha256": ""}}), "cannot be"),
    "nested": (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "is no manifest"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_artifact_is_set_aside_with_a_warning_and_made_again(store, caplog, damage, reason):
    reference = write(store)
    damage(store.folder(reference))
    with caplog.at_level(logging.WARNING, logger="mlc.store.artifacts"):
        assert store.find("stage", PARTS.key) is None
    assert reason in caplog.text
    assert f"The stage artifact {PARTS.key[:12]} is damaged" in caplog.text
    assert not store.folder(reference).exists()
    assert len(aside(store)) == 1
    assert aside(store)[0].name.startswith(f"stage-{PARTS.key[:12]}")
    caplog.clear()
    assert write(store) == reference
    assert caplog.text == ""


def test_writing_over_a_damaged_artifact_replaces_it(store):
    reference = write(store)
    (store.folder(reference) / "table.txt").write_text("damage")
    assert write(store) == reference
    assert (store.folder(reference) / "table.txt").read_text() == "content"
    assert len(aside(store)) == 1


def test_several_threads_that_find_the_same_damage(store):
    for version in range(10):
        parts = dataclasses.replace(PARTS, version=version)
        (store.folder(write(store, parts)) / "table.txt").write_text("damage")
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _, key=parts.key: store.find("stage", key), range(4))) == [None] * 4
    assert len(aside(store)) == 10


def test_a_moved_workspace_keeps_its_artifacts(store, tmp_path):
    reference = write(store)
    moved = shutil.move(store.workspace, tmp_path / "moved")
    again = ArtifactStore(tmp_path / "moved")
    assert again.find("stage", PARTS.key) == reference
    assert again.folder(reference) == moved / reference.path
    assert (again.folder(reference) / "table.txt").read_text() == "content"


def test_a_copied_artifact_does_not_pass_for_another(store, caplog):
    reference = write(store)
    other = dataclasses.replace(PARTS, version=2)
    shutil.copytree(store.folder(reference), store.root / "stage" / other.key)
    assert store.find("stage", other.key) is None
    assert store.find("stage", PARTS.key) == reference


def test_discarding_keeps_the_files_for_a_person(store):
    reference = write(store)
    store.discard(reference)
    assert store.find("stage", PARTS.key) is None
    assert [(path / "table.txt").read_text() for path in aside(store)] == ["content"]


def test_manifests_come_oldest_first(store):
    for version in (3, 1, 2):
        write(store, dataclasses.replace(PARTS, version=version))
    assert [manifest["parts"]["version"] for manifest in store.manifests("stage")] == [3, 1, 2]
    assert store.manifests("nothing") == []


def test_past_manifests_are_read_once(store, monkeypatch):
    assert store.past("stage") == []
    for version in (3, 1, 2):
        last = write(store, dataclasses.replace(PARTS, version=version))
    assert store.past("stage") == store.manifests("stage")
    with monkeypatch.context() as patch:
        patch.setattr("mlc.store.artifacts.known_manifest", None)
        store.discard(last)
        assert [manifest["parts"]["version"] for manifest in store.past("stage")] == [3, 1]
    write(store, dataclasses.replace(PARTS, version=4))
    assert store.past("stage") == store.manifests("stage")


@pytest.mark.parametrize("content", ["{", "[]", "null", "{}"])
def test_manifests_pass_over_what_cannot_be_read(store, caplog, content):
    write(store)
    broken = write(store, dataclasses.replace(PARTS, version=2))
    (store.folder(broken) / MANIFEST).write_text(content)
    assert [manifest["parts"]["version"] for manifest in store.manifests("stage")] == [1]
    assert "cannot be read" in caplog.text


def test_a_workspace_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"workspace .*file/inner' cannot be written \(Not a directory\): name another"):
        ArtifactStore(tmp_path / "file" / "inner")


def test_a_workspace_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    code = "import sys; from pathlib import Path; from mlc.store import ArtifactStore; ArtifactStore(Path(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "inner")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=obey_permissions,
    )
    assert re.search(r"UserError: The workspace .* cannot be written \(Permission denied\)", ended.stderr), ended.stderr


def test_a_reference_is_plain_data(store):
    reference = write(store)
    assert ArtifactRef(**json.loads(json.dumps(dataclasses.asdict(reference)))) == reference


# Other processes.

WRITER = """
import sys, time
from pathlib import Path
from mlc.store import ArtifactStore, KeyParts

workspace, me, other, rounds = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
store = ArtifactStore(workspace)
for number in range(rounds):
    parts = KeyParts("stage", number)
    with store.writing("stage", parts) as draft:
        for name in range(5):
            (draft.path / f"{name}.txt").write_text(f"{me} {number}" * 100)
        # Both are ready to finish at the same moment.
        (workspace / f"ready-{number}-{me}").touch()
        while not (workspace / f"ready-{number}-{other}").exists():
            time.sleep(0.0002)
    assert store.find("stage", parts.key) is not None
"""


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_two_processes_that_write_the_same_artifact_at_once(store):
    rounds = 25
    pair = [start(WRITER, store.workspace, me, other, rounds) for me, other in (("a", "b"), ("b", "a"))]
    for process in pair:
        process.communicate(timeout=60)
    assert [process.returncode for process in pair] == [0, 0]
    for number in range(rounds):
        reference = store.find("stage", KeyParts("stage", number).key)
        texts = {path.read_text() for path in store.folder(reference).glob("*.txt")}
        assert texts in ({f"a {number}" * 100}, {f"b {number}" * 100})
    assert aside(store) == []
    assert list((store.root / ".drafts").iterdir()) == []


SLEEPER = """
import sys, time
from pathlib import Path
from mlc.store import ArtifactStore, KeyParts

with ArtifactStore(Path(sys.argv[1])).writing("stage", KeyParts("stage", 1, settings={"x": 1})) as draft:
    (draft.path / "table.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_killed_runs_left_can_be_cleared(store):
    reference = write(store)
    process = start(SLEEPER, store.workspace)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert len(list((store.root / ".drafts").iterdir())) == 1
    store.clear_drafts()
    assert list((store.root / ".drafts").iterdir()) == []
    assert store.find("stage", PARTS.key) == reference


def test_a_kill_while_writing_leaves_nothing_visible(store):
    process = start(SLEEPER, store.workspace)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert store.find("stage", PARTS.key) is None
    assert store.manifests("stage") == []
    assert visible(store) == []
    assert aside(store) == []
    assert write(store) is not None


MANY = """
import sys
from pathlib import Path
from mlc.store import ArtifactStore, KeyParts

store = ArtifactStore(Path(sys.argv[1]))
print("started", flush=True)
for number in range(100_000):
    with store.writing("stage", KeyParts("stage", number)) as draft:
        for name in range(3):
            (draft.path / f"{name}.txt").write_text(str(number) * 1000)
"""


def test_a_kill_at_any_moment_leaves_only_whole_artifacts(store):
    for trial in range(4):
        process = start(MANY, store.workspace)
        assert process.stdout.readline() == "started\n"
        # On a busy machine the first one takes its time.
        while not (store.root / "stage").is_dir():
            time.sleep(0.01)
        time.sleep(0.033 * trial)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        made = [path.name for path in (store.root / "stage").iterdir()]
        assert made
        assert all(store.find("stage", key) is not None for key in made)
    assert aside(store) == []


@pytest.mark.parametrize(
    ("name", "fits"), [("q?x", False), ("100%25 done", False), ("50%", True), ("a#b c", True), ("ü % 文", True)]
)
def test_a_workspace_that_no_database_could_be_named_in(tmp_path, name, fits):
    if fits:
        assert ArtifactStore(tmp_path / name).root.is_dir()
        return
    with pytest.raises(UserError, match="give the folder another name"):
        ArtifactStore(tmp_path / name / "inner")
    assert not (tmp_path / name).exists()


def test_time_of_an_attempt_that_left_work_counts_for_the_next(store):
    now = iter([0.0, 7.0, 100.0, 103.0]).__next__
    partial = store.partial("align", PARTS.key)
    partial.mkdir(parents=True)
    with pytest.raises(RuntimeError), store.writing("align", PARTS, clock=now):
        raise RuntimeError
    with store.writing("align", PARTS, clock=now):
        pass
    assert store.manifest("align", PARTS.key)["seconds"] == 10.0


def test_time_of_an_attempt_that_left_nothing_is_its_own(store):
    now = iter([0.0, 100.0, 103.0]).__next__
    with pytest.raises(RuntimeError), store.writing("align", PARTS, clock=now):
        raise RuntimeError
    with store.writing("align", PARTS, clock=now):
        pass
    assert store.manifest("align", PARTS.key)["seconds"] == 3.0
