"""CSV and TSV: fields between separators, some of them in quotation marks.

In a TSV file marks are text: a line whose plain split on tabs has the header's width is a row as it stands. Only where
the names in the header are in quotation marks, or where a line has another width, do marks hold fields together.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, TypeAlias

import pyarrow as pa

from mlc.tables.blocks import RECORD_LINES, Utf8Lines, fields_in
from mlc.tables.rows import Row, good_rows

SAMPLE_RECORDS = 1_000
"""Records by which a dialect is chosen."""
OUT_OF_PLACE = "a quotation mark out of place"

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BACKSLASHED = re.compile(r'\\(["\\])')
_SPACED = re.compile(r'(?<=[^"]")[ \t]+(?=[,;|])|(?<=[,;|])[ \t]+(?="(?:[^"]|$))')
_Record = tuple[list[str], str | None]
_Found: TypeAlias = _Record | Any
"""One record, or many with nothing wrong as a table of Arrow, empty fields as null."""


@dataclass(frozen=True)
class Dialect:
    """How fields are written."""

    separator: str = ","
    backslash: bool = False
    """Whether a backslash stands before quotation marks inside fields."""
    spaced: bool = False
    """Whether spaces stand between quotation marks and separators."""
    plain: bool = False
    """Whether quotation marks are text."""

    @property
    def in_words(self) -> str:
        """What is unusual, for people."""
        parts = [
            f"separated by {_SEPARATORS[self.separator]}",
            *(["backslash before quotation marks"] if self.backslash else []),
            *(["spaces around separators"] if self.spaced else []),
            *(["quotation marks are text"] if self.plain else []),
        ]
        return ", ".join(parts)


USUAL = (Dialect(), Dialect("\t", plain=True))
"""Of what ends in ``.csv`` and in ``.tsv``."""


def dialect_of(lines: Iterable[str], *, separator: str) -> Dialect:
    """Finds out how fields are written, by the first records.

    Args:
        lines: The file.
        separator: What the ending of the file stands for: a comma or a tab.
    """
    taken = list(islice(lines, 2 * SAMPLE_RECORDS))
    header = next((line for line in taken if line.strip()), "")
    if separator == "\t" and "\t" in header:
        return Dialect("\t", plain=not _is_quoted(header))
    others = [mark for mark in _SEPARATORS if mark != separator and mark in header]
    best = Dialect(separator)
    # A header that is one name only because of its separator fits nothing.
    fewest = len(taken) if others and len(header_of(taken, best)) == 1 else _misfits(taken, best)
    for candidate in [
        *(Dialect(mark, plain=mark == "\t" and not _is_quoted(header)) for mark in others),
        Dialect(separator, backslash=True),
        Dialect(separator, spaced=True),
        *(Dialect(mark, backslash=True) for mark in others if mark != "\t"),
        *(Dialect(mark, spaced=True) for mark in others if mark != "\t"),
    ]:
        misfits = _misfits(taken, candidate)
        if misfits < fewest:
            best, fewest = candidate, misfits
    return Dialect("\t", plain=not _is_quoted(header)) if best == Dialect("\t") else best


def header_of(lines: Iterable[str], dialect: Dialect) -> list[str]:
    """Names of the columns; those without one are named by their place, such as ``unnamed_1``."""
    return _names(next(_records(lines, dialect), ([], None))[0])


def separated_rows(lines: Iterable[str], dialect: Dialect) -> Iterator[Row]:
    """Rows after the header."""
    records = _records(lines, dialect)
    names = _names(next(records, ([], None))[0])
    number = 1
    for found in records:
        if isinstance(found, pa.Table):
            yield from good_rows(found.to_pylist(), number)
            number += len(found)
            continue
        fields, problem = found
        if problem is None and len(fields) != len(names):
            problem = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
        values: dict[str, str | None] = dict(zip(names, fields, strict=False))
        if "" in fields:
            values = {name: value or None for name, value in values.items()}
        yield Row(number, values, problem)
        number += 1


def count_rows(lines: Iterable[str], dialect: Dialect) -> int:
    """Number of rows after the header, bad ones counted."""
    return max(sum(len(found) if isinstance(found, pa.Table) else 1 for found in _records(lines, dialect)) - 1, 0)


def quoted_header(names: Iterable[str]) -> str:
    """The header of a TSV file that is written: its marks say that marks hold fields together in this file."""
    return "\t".join('"' + name.replace('"', '""') + '"' for name in names) + "\n"


def _misfits(lines: list[str], dialect: Dialect) -> int:
    """Records in a sample that do not have the width of their header; a header of one column fits a comma only."""
    records = list(islice(_records(lines, dialect), SAMPLE_RECORDS))
    width = len(records[0][0]) if records else 0
    if width < 2 and dialect != Dialect():
        return sys.maxsize
    return sum(problem is not None or len(fields) != width for fields, problem in records)


def _is_quoted(header: str) -> bool:
    names = header.rstrip("\r\n").lstrip("\ufeff").split("\t")
    return all(len(name) > 1 and name[0] == name[-1] == '"' for name in names)


def _names(fields: Sequence[str]) -> list[str]:
    return [field.strip() or f"unnamed_{place}" for place, field in enumerate(fields, start=1)]


def _records(lines: Iterable[str], dialect: Dialect) -> Iterator[_Found]:
    """Fields of each record that is not blank, the header's first; many at once where ``lines`` can give them."""
    csv.field_size_limit(sys.maxsize)
    return _plain_records(lines) if dialect.plain else _marked_records(lines, dialect)


def _marked_records(lines: Iterable[str], dialect: Dialect) -> Iterator[_Found]:
    """Records in which quotation marks hold fields together.

    A mark that is never closed costs its own line only: reading goes on with the line after it. So does one that would
    swallow lines and still not give a record of the header's width.
    """
    taken = _Lines(lines, dialect)
    header: list[str] = []
    while True:
        if header and taken.is_between:
            yield from taken.easy_records(header)
        reader = csv.reader(taken, delimiter=dialect.separator, strict=True)
        try:
            for fields in reader:
                if header and len(fields) != len(header) and len(taken.taken) > 1:
                    raise csv.Error
                taken.taken.clear()
                if fields:
                    header = header or fields
                    yield fields, None
                if taken.is_between:
                    break
            else:
                return
        except csv.Error:
            taken.give_back()
            yield [], OUT_OF_PLACE


def _plain_records(lines: Iterable[str]) -> Iterator[_Found]:
    """Records whose fields are what stands between the tabs of a line."""
    taken = _Lines(lines, Dialect("\t", plain=True))
    header: list[str] = []
    taken.ends = lambda line: bool(header) and line.count("\t") + 1 == len(header)
    for line in taken:
        text = line.rstrip("\n").removesuffix("\r")
        fields = text.split("\t")
        if header and len(fields) != len(header) and '"' in text:
            fields = _held_together(taken, len(header)) or fields
        taken.taken.clear()
        if text:
            header = header or fields
            yield fields, None
        if header and taken.is_between:
            yield from taken.easy_records(header)


def _strict_records(lines: Iterable[str], dialect: Dialect, width: int) -> list[list[str]]:
    """Records of one width that leave no quotation mark open; none if any is otherwise."""
    try:
        records = [fields for fields in csv.reader(lines, delimiter=dialect.separator, strict=True) if fields]
    except csv.Error:
        return []
    return records if all(len(fields) == width for fields in records) else []


def _held_together(lines: "_Lines", width: int) -> list[str] | None:
    """The record that begins at the line just taken, if marks hold one of the right width together."""
    lines.return_all()
    try:
        fields = next(csv.reader(lines, delimiter="\t", strict=True))
    except (csv.Error, StopIteration):
        fields = []
    if len(fields) == width:
        return fields
    lines.give_back()
    return None


class _Lines(Iterator[str]):
    """Lines that can be read again.

    Args:
        lines: The file.
        dialect: How fields are written; what is unusual is put as Python's reader wants it.
    """

    def __init__(self, lines: Iterable[str], dialect: Dialect) -> None:
        self.taken: list[str] = []
        """Lines of the record that is being read."""
        self.ends: Callable[[str], bool] = lambda line: False
        """Whether a line is no part of the record before it."""
        self._lines = iter(lines)
        self._dialect = dialect
        self._ahead: deque[str] = deque()

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        if self.taken and (len(self.taken) >= RECORD_LINES or self.ends(line)):
            self._ahead.appendleft(line)
            raise StopIteration
        self.taken.append(line)
        if self._dialect.backslash:
            line = _BACKSLASHED.sub(lambda found: '""' if found[1] == '"' else found[1], line)
        return _SPACED.sub("", line) if self._dialect.spaced else line

    @property
    def is_between(self) -> bool:
        """Whether what was read ahead is used up, so that a block may be read at once."""
        return not self._ahead and not self.taken

    def easy_records(self, header: Sequence[str]) -> Iterator[_Found]:
        """Records in blocks of lines that give records of the header's width, which most files have to their end.

        What follows them is read line by line, with its own lines.
        """
        dialect, lines = self._dialect, self._lines
        if not isinstance(lines, Utf8Lines) or dialect.backslash or dialect.spaced:
            return
        names = tuple(_names(header))
        while block := lines.block(marked=not dialect.plain):
            table = fields_in(block, names, separator=dialect.separator, marked=not dialect.plain)
            if table is not None:
                yield table
                continue
            block_lines = lines.lines_in(block)
            records = [] if dialect.plain else _strict_records(block_lines, dialect, len(names))
            if not records:
                self._ahead.extend(block_lines)
                return
            yield from zip(records, repeat(None))

    def give_back(self) -> None:
        """All lines of the record but the first are read again."""
        self._ahead.extendleft(reversed(self.taken[1:]))
        self.taken.clear()

    def return_all(self) -> None:
        """All lines of the record are read again."""
        self._ahead.extendleft(reversed(self.taken))
        self.taken.clear()
