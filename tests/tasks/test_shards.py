"""Where tables are cut, and what new rows do to the cuts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.runtime.shards import content_shards, is_shard, without_shard

ROWS = 60


def cut(ids: list[str], rows: int = ROWS) -> set[tuple[str, ...]]:
    return {tuple(shard.of(Sliced(ids))) for shard in content_shards(ids, rows)}


class Sliced(list[str]):
    """Rows that are sliced as those of Arrow's tables."""

    def slice(self, offset: int, length: int) -> list[str]:
        return self[offset : offset + length]


@given(count=st.integers(0, 400), rows=st.integers(2, 80))
def test_every_row_is_in_one_shard_and_none_is_small(count: int, rows: int) -> None:
    ids = [str(number) for number in range(count)]
    shards = content_shards(ids, rows)
    assert [number for shard in shards for number in range(shard.start, shard.stop)] in ([], list(range(count)))
    assert bool(shards) <= (count > rows)
    assert all(shard.stop - shard.start >= rows // 2 for shard in shards)
    assert [shard.number for shard in shards] == list(range(1, len(shards) + 1))


@pytest.mark.parametrize("place", [0, 1, 1234, 2000], ids=["first", "second", "within", "last"])
def test_ten_new_rows_redo_one_shard_or_two(place: int) -> None:
    ids = [f"prompt {number}" for number in range(2000)]
    before = cut(ids)
    after = cut([*ids[:place], *(f"new {number}" for number in range(10)), *ids[place:]])
    assert len(before) > 20
    assert 1 <= len(after - before) <= 2


def test_rows_that_are_taken_out_redo_their_shard_alone() -> None:
    ids = [f"prompt {number}" for number in range(2000)]
    assert len(cut([*ids[:700], *ids[705:]]) - cut(ids)) <= 2


def test_shards_are_about_as_large_as_asked() -> None:
    ids = [str(random.Random(0).random() + number) for number in range(20_000)]
    sizes = [len(rows) for rows in cut(ids)]
    assert 0.9 * ROWS < sum(sizes) / len(sizes) < 1.1 * ROWS
    assert max(sizes) < 4 * ROWS
    assert sum(size > 2 * ROWS for size in sizes) < 0.05 * len(sizes)


@pytest.mark.parametrize("rows", [None, 5])
def test_what_is_not_to_be_cut_has_no_shards(rows: int | None) -> None:
    assert content_shards(list("abcde"), rows) == []


def test_equal_ids_are_no_bound() -> None:
    assert content_shards(["same"] * 100, 10) == []


@pytest.mark.parametrize("whole", [None, "held-out", "consistency · seed 0"])
def test_subjects_of_shards_name_the_whole(whole: str | None) -> None:
    shard = content_shards([str(number) for number in range(200)], 20)[2]
    assert without_shard(shard.subject(whole)) == whole
    assert is_shard(shard.subject(whole))
    assert not is_shard(whole)
