"""`mlc gc`, `mlc export` and `mlc import` on real runs."""

import tarfile
from pathlib import Path

import pytest

from tests.flows.runs import Flow, made
from tests.flows.smoked import Mlc


def files(folder: Path) -> set[Path]:
    """Those that hold something: locks are empty, and gc takes them along."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


def artifacts(folder: Path, stage: str) -> int:
    return len([path for path in (folder / "artifacts" / stage).iterdir() if not path.name.startswith(".")])


@pytest.mark.slow
def test_gc_says_what_would_go_and_takes_nothing(mlc: Mlc, copy: Path) -> None:
    before = files(copy / "artifacts")
    ended = mlc("gc", "--keep-last", "1", "--dry-run", "--memory", "--workspace", str(copy))
    assert ended.code == 0, ended.err
    assert "bytes" in ended.out
    assert "would be removed" in ended.out
    assert "dataset" in ended.out
    assert files(copy / "artifacts") == before


@pytest.mark.slow
def test_gc_leaves_what_the_last_run_and_the_registry_need(mlc: Mlc, flow: Flow, copy: Path) -> None:
    models, datasets = artifacts(copy, "align"), artifacts(copy, "dataset")
    memory = files(copy / "memory")
    ended = mlc("gc", "--keep-last", "1", "--memory", "--workspace", str(copy))
    assert ended.code == 0, ended.err
    # Of the first run the training set goes; its model is registered and stays.
    assert (datasets, artifacts(copy, "dataset")) == (2, 1)
    assert artifacts(copy, "align") == models
    # The translator is one that a kept run uses.
    assert files(copy / "memory") == memory
    assert made(flow(copy)) == set()


@pytest.mark.slow
def test_gc_with_nothing_to_do(mlc: Mlc, copy: Path) -> None:
    before = files(copy / "artifacts")
    ended = mlc("gc", "--keep-last", "5", "--workspace", str(copy))
    assert ended.code == 0, ended.err
    assert files(copy / "artifacts") == before


@pytest.mark.slow
def test_a_run_travels(mlc: Mlc, flow: Flow, workspace: Path, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "run.tar.gz", tmp_path / "elsewhere"
    told = mlc("export", "last", str(archive), "--workspace", str(workspace))
    assert told.code == 0, told.err
    assert "artifacts of run 2" in told.out
    taken = mlc("import", str(archive), "--workspace", str(elsewhere))
    assert taken.code == 0, taken.err
    twice = mlc("import", str(archive), "--workspace", str(elsewhere))
    assert "0 of" in twice.out
    # The registry stays where it is, so the model is registered anew.
    assert {name.partition(" ")[0] for name in made(flow(elsewhere))} <= {"register", "promote"}


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["flipped", "short", "no archive"])
def test_a_damaged_archive_leaves_nothing(mlc: Mlc, workspace: Path, tmp_path: Path, harm: str) -> None:
    archive, elsewhere = tmp_path / "run.tar", tmp_path / "elsewhere"
    assert mlc("export", "1", str(archive), "--workspace", str(workspace)).code == 0
    content = bytearray(archive.read_bytes())
    with tarfile.open(archive) as members:
        # Not in the padding between two files, where nothing is lost.
        largest = max(members.getmembers(), key=lambda member: member.size)
    middle = largest.offset_data + largest.size // 2
    if harm == "flipped":
        # In the content of a file: a flipped time in a header of the archive would harm nothing.
        with tarfile.open(archive) as opened:
            largest = max(opened, key=lambda member: member.size)
        content[largest.offset_data + largest.size // 2] ^= 1
    archive.write_bytes(b"nonsense" if harm == "no archive" else content[:middle] if harm == "short" else content)
    ended = mlc("import", str(archive), "--workspace", str(elsewhere))
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert files(elsewhere / "artifacts") == set()


@pytest.mark.parametrize("run", ["9", "nothing"])
def test_a_run_that_is_not_there(mlc: Mlc, workspace: Path, tmp_path: Path, run: str) -> None:
    ended = mlc("export", run, str(tmp_path / "x.tar"), "--workspace", str(workspace))
    assert ended.code == 2
    assert not (tmp_path / "x.tar").exists()
    assert "Traceback" not in ended.err


def test_an_archive_is_called_what_it_is(mlc: Mlc, copy: Path) -> None:
    ended = mlc("export", "last", str(copy.parent / "run.zip"), "--workspace", str(copy))
    assert ended.code == 2
    assert "must end in .tar or .tar.gz or .tgz" in " ".join(ended.err.split())
