"""Blocks of lines with nothing unusual about them, read at once.

Readers that go row by row know what to do with every fault; they cost several times what a block costs. What is read
here is proved to be what they would give; a block without that proof is theirs.
"""

import codecs
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from io import StringIO
from itertools import chain
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv

BLOCK_BYTES = 1 << 15
"""How much of a file is read at a time: what stays near the processor."""
TABLE_BYTES = 1 << 19
"""The same for fields between separators, where each call costs more."""
RECORD_LINES = 2_000
"""Lines after which a quotation mark counts as never closed."""

PLAIN_TYPES = frozenset({str, int, bool, type(None)})
"""Types of values that both readers of JSON give alike: of long numbers the fast one keeps 17 digits."""
DEEPEST = 128
"""Brackets in a line up to which no reader runs out of stack."""
_BETWEEN = b"%d" % ((1 << 53) + 1)
"""A number that no number with a point or an exponent equals."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_MARK = ord('"')


class Utf8Lines(Iterator[str]):
    r"""The lines of a file, one at a time or many at once.

    Args:
        handle: The file, as UTF-8.
        errors: How bytes that are not UTF-8 are decoded.
        line_ends: As for :func:`open`: the empty text ends lines at ``\r``, too.
    """

    def __init__(self, handle: IO[bytes], errors: str, line_ends: str) -> None:
        self._handle = handle
        self._errors = errors
        self._line_ends = line_ends
        self._ready: deque[str] = deque()

    def __next__(self) -> str:
        if not self._ready:
            self._ready.extend(self.lines_in(self._handle.readline()))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def lines_in(self, block: bytes) -> list[str]:
        """The lines of a block as text."""
        return list(StringIO(block.decode("utf-8", self._errors), newline=self._line_ends))

    def block(self, *, marked: bool) -> bytes:
        """The next lines as they stand in the file; nothing at its end.

        Args:
            marked: Whether quotation marks hold lines together; then a block goes on to the line with the last of them.
        """
        if self._ready:
            return b""
        block = block_of(self._handle, TABLE_BYTES)
        if not marked or _count(block, b'"') % 2 == 0:
            return block
        parts = [block]
        while len(parts) <= RECORD_LINES and (line := self._handle.readline()):
            parts.append(line)
            if line.count(b'"') % 2:
                break
        return b"".join(parts)


def block_of(handle: IO[bytes], size: int) -> bytes:
    """The next lines of a file, ``size`` bytes and the rest of the last line; nothing at its end."""
    block = handle.read(size)
    return block if block.endswith(b"\n") or not block else block + handle.readline()


def objects_in(block: bytes, *, names_only: bool) -> list[dict[str, Any]] | None:
    """The JSON objects of a block, one a line; None if a line is anything else, or perhaps not what Python reads.

    The lines are read as one array with a number between them. Such a number can only stand in an array, because it is
    no name and a line break inside a text is no JSON. So it stands between two lines of the outer array if there is no
    other one, or else if it is a number that is in no line, found wherever one is due.
    """
    body = block.removesuffix(b"\n")
    only_array = b"[" not in body
    between = b"0" if only_array else _BETWEEN
    if not only_array and between in body:
        return None
    joined = body.replace(b"\n", b",%b,\n" % between)
    breaks = (len(joined) - len(body)) // (len(between) + 2)
    try:
        values = orjson.loads(b"[%b]" % joined)
    except ValueError:
        return None
    if len(values) != 2 * breaks + 1 or not (only_array or values[1::2] == [int(between)] * breaks):
        return None
    objects = values[::2]
    if set(map(type, objects)) != {dict}:
        return None
    return objects if names_only or _are_read_alike(objects, body) else None


def _are_read_alike(objects: list[dict[str, Any]], body: bytes) -> bool:
    """Whether numbers are short enough for both readers of JSON, and records not too deep for one of them."""
    kinds = set(map(type, chain.from_iterable(map(dict.values, objects))))
    if kinds <= PLAIN_TYPES:
        return True
    if _LONG_NUMBER in body.translate(_DIGITS):
        return False
    if kinds <= PLAIN_TYPES | {float}:
        return True
    return all(line.count(b"[") + line.count(b"{") <= DEEPEST for line in body.split(b"\n"))


def fields_in(block: bytes, names: tuple[str, ...], *, separator: str, marked: bool) -> pa.Table | None:
    """The records of a block as a table of texts; None if a record is unusual.

    Args:
        block: Whole lines.
        names: Names of its columns; all records must have as many fields.
        separator: What stands between fields.
        marked: Whether quotation marks hold fields together.
    """
    # What reads it takes a mark of the encoding away, even from inside a file.
    if block.startswith(codecs.BOM_UTF8) or not _ends_are_usual(block):
        return None
    if marked and not _marks_are_in_place(block, separator):
        return None
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            parse_options=_parsing(separator, marked),
            convert_options=_texts(names),
        )
    except pa.ArrowException:
        return None
    return table if _count(block, b"\n") < table.num_rows + RECORD_LINES else None


@lru_cache(maxsize=8)
def _parsing(separator: str, marked: bool) -> Any:
    return pyarrow.csv.ParseOptions(
        delimiter=separator, quote_char='"' if marked else False, newlines_in_values=marked, ignore_empty_lines=True
    )


@lru_cache(maxsize=8)
def _texts(names: tuple[str, ...]) -> Any:
    return pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )


@lru_cache(maxsize=8)
def _beside_marks(separator: str) -> Any:
    beside = np.zeros(256, dtype=bool)
    beside[list(f'{separator}\r\n"'.encode())] = True
    return beside


def _count(block: bytes, byte: bytes) -> int:
    """How often a byte that is no rarity occurs, faster than Python counts."""
    return int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == byte[0]))


def _ends_are_usual(block: bytes) -> bool:
    """Whether every carriage return stands before a line feed."""
    if b"\r" not in block:
        return True
    content = np.frombuffer(block + b" ", dtype=np.uint8)
    returns = np.flatnonzero(content == ord("\r"))
    return bool((content[returns + 1] == ord("\n")).all())


def _marks_are_in_place(block: bytes, separator: str) -> bool:
    """Whether every quotation mark begins a field, ends one, or is doubled inside one.

    Every second mark opens, so that before it a field begins, or another mark was just closed: those two are one mark
    inside a field. What stands behind a closing mark is the same from the other side.
    """
    around = np.frombuffer(b"\n%b\n" % block, dtype=np.uint8)
    marks = np.flatnonzero(around == _MARK)
    beside = _beside_marks(separator)
    return bool(len(marks) % 2 == 0 and beside[around[marks[::2] - 1]].all() and beside[around[marks[1::2] + 1]].all())
