"""Work inside a language in shards: parts of a table whose bounds the rows themselves mark."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mlc.store import ArtifactRef

_NAME = "shard"
_IN_SUBJECT = re.compile(rf"(?: · )?{_NAME} \d+$")
_MARK_BYTES = 8


@dataclass(frozen=True)
class Shard:
    """Some rows of a table that follow each other."""

    number: int
    """Counted from 1."""
    start: int
    """The first row."""
    stop: int
    """The row after the last one."""

    def of(self, table: Any) -> Any:
        """Its rows of a table of Arrow's."""
        return table.slice(self.start, self.stop - self.start)

    def subject(self, whole: str | None) -> str:
        """What tells the shard's task from others of its stage.

        Args:
            whole: The same for the whole table.
        """
        return " · ".join(text for text in (whole, f"{_NAME} {self.number}") if text)


def rows_of(shards: Sequence[ArtifactRef]) -> int | None:
    """Rows of all shards together, None where those of one are not known."""
    counts = [ref.rows for ref in shards if ref.rows is not None]
    return sum(counts) if len(counts) == len(shards) else None


def without_shard(subject: str | None) -> str | None:
    """The subject of the whole table, from that of one of its shards; others stay as they are."""
    return (_IN_SUBJECT.sub("", subject) or None) if subject else subject


def is_shard(subject: str | None) -> bool:
    """Whether a task with this subject is one of a shard."""
    return subject is not None and _IN_SUBJECT.search(subject) is not None


def content_shards(ids: Sequence[str], rows: int | None) -> list[Shard]:
    """Cuts a table into shards of about so many rows.

    Each row has a mark, a digest of its id, and a shard begins at a row whose mark is lower than those of the
    ``rows // 2`` rows on either side. So a bound depends on the rows around it and on nothing else: rows that are put
    in, at the end or anywhere, change the shard that they come into, at times its neighbour, and no other. Bounds by
    position would move behind every new row. Buckets by the digest of an id would hold still too, but rows that are new
    together, as they are when a file grows, would fall into as many buckets as they are rows; and a number of buckets
    that follows the rows in powers of two cuts everything anew each time it doubles.

    A shard has more than ``rows // 2`` rows and on average ``rows``; where no mark is lowest for long it has more,
    seldom more than twice as many.

    Args:
        ids: Of the rows, in their order.
        rows: Rows in a shard; None cuts nothing.

    Returns:
        Shards that hold every row once, in order; none where the table is not to be cut, or has no more than ``rows``.
    """
    if rows is None or len(ids) <= rows:
        return []
    bounds = [0, *_lowest([_mark(name) for name in ids], max(1, rows // 2)), len(ids)]
    if len(bounds) == 2:
        return []
    return [Shard(number, *pair) for number, pair in enumerate(pairwise(bounds), start=1)]


def _mark(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_MARK_BYTES).digest()


def _lowest(marks: Sequence[bytes], reach: int) -> list[int]:
    """Positions whose mark is lower than all others within reach, where there are so many on both sides."""
    before, after = [-1] * len(marks), [len(marks)] * len(marks)
    rising: list[int] = []
    for place, mark in enumerate(marks):
        while rising and marks[rising[-1]] > mark:
            after[rising.pop()] = place
        if rising:
            before[place] = rising[-1]
        rising.append(place)
    return [place for place in range(len(marks)) if place - before[place] > reach and after[place] - place > reach]
