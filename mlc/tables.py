"""Tables that people bring: JSON Lines, CSV, TSV, Parquet or plain lines, read row by row, whatever is wrong with some.

A row that cannot be read comes with the reason and takes no other row with it. Messages never quote the content of a
table, because it may hold prompts.
"""

import csv
import errno
import json
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.choices import Format
from mlc.errors import UserError
from mlc.store.drafts import draft_file
from mlc.store.plain import as_cell

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "lines",
}
"""The format that the ending of a file names."""
TABLE_ENDINGS = tuple(ending for ending, name in FORMATS.items() if name != "lines")
"""Endings of files with columns."""
LINE_COLUMN = "text"
"""The one column of a file of plain lines."""
NO_TEXT = "no text"
BATCH_ROWS = 1_000

_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_UNDECODED = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SEPARATORS: dict[Format, str] = {"csv": ",", "tsv": "\t"}
_WIDE = (b"\xff\xfe", b"\xfe\xff")
"""How UTF-16 and UTF-32 begin."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    number: int
    """1 for the first row after a header; blank lines of JSON Lines and CSV are no rows."""
    values: Mapping[str, Any]
    """Values by column; of a row that cannot be read what there is of it, perhaps nothing."""
    problem: str | None = None
    """Why the row cannot be read."""


class TableFile:
    """A table on disk.

    Args:
        path: The file.
        format: Its format; named by the ending of the file if not given.
        formats: Endings that are allowed.
        what: What the file is, for messages.

    Raises:
        UserError: The file cannot be read, or two columns have one name.
    """

    def __init__(
        self,
        path: Path,
        format: Format | None = None,
        *,
        formats: Sequence[str] = tuple(FORMATS),
        what: str = "file",
    ) -> None:
        self.path = path
        self.what = what
        self.format = format or format_of(path, formats=formats, what=what)
        with self._told():
            self.schema, self.count = self._survey()
        repeated = sorted(name for name, count in Counter(self.columns).items() if count > 1)
        if repeated:
            raise UserError(f"The {what} {str(path)!r} repeats a column ({columns_in_words(repeated)}): rename one.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order in which they first occur."""
        return tuple(self.schema.names)

    def __len__(self) -> int:
        """Number of rows, bad ones counted."""
        return self.count

    def __iter__(self) -> Iterator[Row]:
        """Reads the rows, in order, with little memory."""
        with self._told():
            yield from self._rows()

    def require(self, names: Iterable[str]) -> None:
        """Checks that columns are there.

        Raises:
            UserError: One of them is not.
        """
        wanted = tuple(names)
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise UserError(
                f"The {self.what} {str(self.path)!r} has no column {missing[0]!r} ({columns_in_words(self.columns)}): "
                f"it needs {', '.join(wanted)}."
            )

    def _survey(self) -> tuple[pa.Schema, int]:
        """Columns with their types, and the number of rows."""
        if self.format == "parquet":
            with pq.ParquetFile(self.path) as file:
                return file.schema_arrow.remove_metadata(), file.metadata.num_rows
        with self.path.open("rb") as handle:
            if handle.read(2) in _WIDE:
                raise UserError(f"The {self.what} {str(self.path)!r} is not UTF-8 but UTF-16 or UTF-32: convert it.")
        names, count = self._header(), 0
        known = dict.fromkeys(names)
        for row in self._rows():
            count += 1
            if self.format == "jsonl":
                known.update(dict.fromkeys(row.values))
        columns = names if self.format != "jsonl" else list(known)
        return pa.schema([(name, pa.string()) for name in columns]), count

    def _header(self) -> list[str]:
        if self.format == "lines":
            return [LINE_COLUMN]
        if self.format == "jsonl":
            return []
        with self._open() as handle:
            return next(_records(handle, _SEPARATORS[self.format]), ([], None))[0]

    def _rows(self) -> Iterator[Row]:
        if self.format == "parquet":
            yield from self._parquet_rows()
            return
        with self._open() as handle:
            if self.format == "lines":
                for number, line in enumerate(handle, start=1):
                    yield Row(number, {LINE_COLUMN: line.rstrip("\n").removesuffix("\r")})
            elif self.format == "jsonl":
                yield from _json_rows(handle)
            else:
                yield from _separated_rows(handle, _SEPARATORS[self.format])

    def _parquet_rows(self) -> Iterator[Row]:
        number = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)

    def _open(self) -> IO[str]:
        # Bytes that are not UTF-8 become surrogates, which `text_of` finds. Only CSV leaves line ends to its reader.
        newline = "" if self.format in _SEPARATORS else "\n"
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what goes wrong in reading into one sentence."""
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            # pyarrow gives some of these without a number.
            missing = not self.path.exists()
            code = errno.ENOENT if missing else errno.EISDIR if self.path.is_dir() else error.errno
            reason = os.strerror(code) if code else "it is not a readable file of its kind"
            raise UserError(f"The {self.what} {str(self.path)!r} cannot be read ({reason}): check the path.") from None
        except (pa.ArrowException, ValueError):
            # The exception's own text may quote the content.
            raise UserError(
                f"The {self.what} {str(self.path)!r} is not valid {self.format}: check its content."
            ) from None


@contextmanager
def writing_told(path: Path | None) -> Iterator[None]:
    """Turns what goes wrong in writing a file, or standard output, into one sentence."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"The file {str(path or 'standard output')!r} cannot be written "
            f"({error.strerror or type(error).__name__}): name another one, or make room.",
            about="output",
        ) from None


class TableWriter:
    """Writes a table, a few rows at a time, to a file that is there when it is complete.

    Args:
        path: The file; standard output if None.
        format: Its format.
        schema: Columns and their types; JSON Lines keep the values as they are.
        lines: The column that plain lines hold.
        cells: Whether no text in CSV or TSV may begin a formula of a spreadsheet; such texts get an apostrophe.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        format: Format,
        schema: pa.Schema,
        *,
        lines: str = LINE_COLUMN,
        cells: bool = False,
    ) -> None:
        self.path = path
        self.format = format
        self.schema = schema
        self.lines = lines
        self.cells = cells
        self._opened = ExitStack()
        self._draft = self._opened.enter_context(draft_file(path)) if path else None
        self._parquet: pq.ParquetWriter | None = None
        self._handle: IO[str] = sys.stdout
        with writing_told(self.path):
            self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing_told(self.path):
            self._close()
            self._opened.__exit__(kind, error, trace)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows.

        Args:
            rows: Values by column; those that are left out are empty.

        Raises:
            UserError: The disk is full, or the file cannot be written for another reason.
        """
        with writing_told(self.path):
            if self._parquet is not None:
                self._parquet.write_table(self._table(rows))
            elif self.format == "jsonl":
                for row in rows:
                    ordered = {name: row[name] for name in self.schema.names if name in row}
                    text = json.dumps(ordered, ensure_ascii=False, default=str)
                    self._handle.write(_SURROGATE.sub("\ufffd", text) + "\n")
            elif self.format == "lines":
                for row in rows:
                    # A line holds one text, so that the lines of both files belong together.
                    self._handle.write(" ".join((row.get(self.lines) or "").splitlines()) + "\n")
            else:
                writer = self._separated()
                writer.writerows([self._cell(row.get(name)) for name in self.schema.names] for row in rows)

    def _cell(self, value: object) -> str | None:
        text = plain_text(value)
        return as_cell(text) if self.cells and text else text

    def _begin(self) -> None:
        if self._draft is None:
            if self.format == "parquet":
                raise UserError("Parquet cannot be written to standard output: name a file.", about="output")
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        elif self.format == "parquet":
            self._parquet = pq.ParquetWriter(self._draft, self.schema)
        else:
            self._handle = self._draft.open("w", encoding="utf-8", newline="")
        if self.format in _SEPARATORS:
            self._separated().writerow(self.schema.names)

    def _close(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        elif self._draft is not None:
            self._handle.close()
        else:
            self._handle.flush()

    def _separated(self) -> Any:
        return csv.writer(self._handle, delimiter=_SEPARATORS[self.format], lineterminator="\n")

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        columns = []
        for field in self.schema:
            values = [row.get(field.name) for row in rows]
            if pa.types.is_string(field.type):
                values = [plain_text(value) for value in values]
            columns.append(pa.array(values, field.type))
        return pa.table(columns, schema=self.schema)


def format_of(path: Path, *, formats: Sequence[str] = tuple(FORMATS), what: str = "file") -> Format:
    """The format that the ending of a file names.

    Raises:
        UserError: It names none of those that are allowed.
    """
    if path.suffix not in formats:
        raise UserError(f"The {what} {str(path)!r} ends in {path.suffix!r}: use one of {', '.join(formats)}.")
    return FORMATS[path.suffix]


def text_of(value: object) -> tuple[str, str | None]:
    """The text in a field, and what is wrong with it.

    Args:
        value: What stands in the field.

    Returns:
        The text, with U+FFFD in place of what is not Unicode, and the reason why it is of no use, or None.
    """
    if value is None or isinstance(value, (list, dict, bool)):
        return "", NO_TEXT if value is None else "not a text"
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    if _SURROGATE.search(text):
        reason = "bytes that are not UTF-8" if _UNDECODED.search(text) else "half a surrogate pair"
        return _SURROGATE.sub("\ufffd", text), reason
    if "\0" in text:
        return text, "a NUL character"
    return text, None if text.strip() else NO_TEXT


def plain_text(value: object) -> str | None:
    """A value as text: lists, records, numbers and truth values as JSON; what is not Unicode as U+FFFD."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    elif isinstance(value, (list, dict, bool, int, float)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return _SURROGATE.sub("\ufffd", str(value))


def columns_in_words(names: Sequence[str]) -> str:
    """Names of columns for a message."""
    # Without a header the first prompts stand where names should, and messages quote no prompts.
    shown = [name for name in names if _COLUMN_NAME.fullmatch(name)]
    others = len(names) - len(shown)
    strange = [f"{others} that do not look like names, so a header may be missing"] if others else []
    return f"it has {', '.join([*shown, *strange]) or 'none'}"


def _json_rows(handle: IO[str]) -> Iterator[Row]:
    number = 0
    for line in handle:
        if not line.strip():
            continue
        number += 1
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            yield Row(number, values)
        else:
            yield Row(number, {}, "not a JSON object")


def _separated_rows(handle: IO[str], separator: str) -> Iterator[Row]:
    records = _records(handle, separator)
    names = next(records, ([], None))[0]
    for number, (fields, problem) in enumerate(records, start=1):
        if problem is None and len(fields) != len(names):
            problem = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
        yield Row(number, dict(zip(names, (field or None for field in fields), strict=False)), problem)


def _records(handle: IO[str], separator: str) -> Iterator[tuple[list[str], str | None]]:
    """Fields of each record that is not blank.

    A quotation mark that is never closed costs its own line only: reading goes on with the line after it.
    """
    csv.field_size_limit(sys.maxsize)
    lines = _Lines(handle)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            lines.give_back()
            reader = csv.reader(lines, delimiter=separator, strict=True)
            yield [], "a quotation mark out of place"
            continue
        lines.taken.clear()
        if fields:
            yield fields, None


class _Lines(Iterator[str]):
    """Lines that can be read again from the second on."""

    def __init__(self, handle: IO[str]) -> None:
        self.taken: list[str] = []
        self._handle = handle
        self._ahead: deque[str] = deque()

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._handle)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        self._ahead.extendleft(reversed(self.taken[1:]))
        self.taken.clear()
