"""Drafts take their place when they are whole; a failure leaves what was there, and nothing else."""

import pytest

from mlc.store.drafts import draft_beside, draft_file, draft_folder, open_private, place_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_over(path):
    path.write_text("half")
    raise RuntimeError


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    with draft_file(path) as draft:
        draft.write_text("new")
        assert not path.exists()
        assert draft.parent == path.parent
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


def test_a_file_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), draft_file(path) as draft:
        fail_over(draft)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_is_there_when_it_is_whole(tmp_path, empty):
    place = tmp_path / "above" / "folder"
    if empty:
        place.mkdir(parents=True)
    with draft_folder(place) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "file.txt").write_text("x")
        assert not place.exists() or not names(place)
    assert (place / "inner" / "file.txt").read_text() == "x"
    assert names(place.parent) == ["folder"]


def test_a_folder_that_fails_is_not_there(tmp_path):
    with pytest.raises(RuntimeError), draft_folder(tmp_path / "folder") as draft:
        fail_over(draft / "file.txt")
    assert names(tmp_path) == []


def test_of_two_folders_the_first_stays(tmp_path):
    place = tmp_path / "folder"
    with draft_folder(place) as slow:
        (slow / "file.txt").write_text("second")
        with draft_folder(place) as fast:
            (fast / "file.txt").write_text("first")
    assert (place / "file.txt").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_what_stands_in_the_way_is_told_from_what_fails(tmp_path):
    draft = draft_beside(tmp_path / "folder")
    draft.mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    assert place_folder(draft, tmp_path / "folder") is False
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        place_folder(draft, tmp_path / "file")
    assert place_folder(draft, tmp_path / "other") is True


@pytest.mark.parametrize(("mode", "content"), [("w", "new"), ("a", "oldnew")])
@pytest.mark.parametrize("there", [False, True])
def test_a_private_file_is_its_owner_s_alone(tmp_path, mode, content, there):
    path = tmp_path / "file.txt"
    if there:
        path.write_text("old")
        path.chmod(0o644)
    with open_private(path, mode) as handle:
        assert path.stat().st_mode & 0o777 == 0o600
        handle.write("new")
    assert path.read_text() == (content if there else "new")
