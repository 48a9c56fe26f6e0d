"""One reader for all formats: what a table holds, and its rows."""

import errno
import lzma
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import pyarrow as pa

from mlc.choices import Format
from mlc.errors import UserError
from mlc.tables import json_rows, separated
from mlc.tables.blocks import Utf8Lines
from mlc.tables.columnar import ARROW_MAGIC, PARQUET_MAGIC, batches_of, columns_and_count
from mlc.tables.foreign import foreign_in
from mlc.tables.formats import FORMATS, LINE_COLUMN, ReadFormat, ending_of, unknown_ending
from mlc.tables.places import Place, find_place, sibling_lines
from mlc.tables.rows import BATCH_ROWS, Row, columns_in_words
from mlc.tables.streams import HEAD_BYTES, Packing, compression_of, head_of, opened_text, opened_utf8, packing_of

COLUMNAR = ("parquet", "arrow")
"""Formats that come in batches of columns."""
NO_LINE_BESIDE = "no line beside it"


@dataclass(frozen=True)
class _Part:
    """One file of a table, and how to read it."""

    path: Path
    format: ReadFormat
    packing: Packing | None = None
    layout: json_rows.Layout = "lines"
    dialect: separated.Dialect | None = None
    columns: tuple[str, ...] = ()
    """Of a file with a header."""


class TableFile:
    """A table that somebody has.

    Args:
        location: Where it lies; see :func:`mlc.tables.places.find_place`.
        format: Its format; by the name of the file if not given. What the content shows beyond doubt counts more.
        formats: Endings of the formats that are allowed; tables in further formats are read as well.
        what: What the table is, for messages.

    Raises:
        UserError: The table cannot be read, or two columns have one name.
    """

    def __init__(
        self,
        location: Path | str,
        format: Format | None = None,
        *,
        formats: Sequence[str] = tuple(FORMATS),
        what: str = "file",
    ) -> None:
        self.location = str(location)
        self.what = what
        with self._told():
            self.place = find_place(location, what=what)
            named = format or self.place.format or _unnamed_format(self.place)
            allowed = {FORMATS[ending] for ending in formats} | {"arrow", "parallel"}
            if named not in allowed:
                if self.place.files[0].is_file():
                    _known_head(self.place.files[0], named)
                raise self._unknown_ending(formats)
            self._parts = [_part_of(path, named) for path in self.place.files]
            self.format = self._parts[0].format
            if len({part.format for part in self._parts}) > 1:
                raise UserError(f"The {what} {self.location!r} holds files of several formats: name one of them.")
            self.schema, self._count = self._survey()
            self._refuse_columns()
        repeated = sorted(name for name, count in Counter(self.columns).items() if count > 1)
        if repeated:
            raise UserError(
                f"The {what} {self.location!r} repeats a column ({columns_in_words(repeated)}): rename one."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order in which they first occur."""
        return tuple(self.schema.names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the table and was understood all the same, for people."""
        first = self._parts[0]
        found = []
        if len(self._parts) > 1 and self.format != "parallel":
            found.append(f"{len(self._parts)} shards")
        if first.packing is not None:
            if first.packing.compression:
                found.append(f"compressed with {first.packing.compression}")
            if first.packing.encoding not in ("utf-8", "utf-8-sig"):
                likely = "taken for " if first.packing.guessed else ""
                found.append(f"{likely}{first.packing.encoding_name}, not UTF-8")
        if first.layout != "lines":
            kinds = {"array": "a JSON array", "objects": "JSON objects", "wrapped": "a JSON array in an object"}
            found.append(kinds[first.layout])
        if first.dialect is not None and first.dialect not in separated.USUAL:
            found.append(first.dialect.in_words)
        return tuple(found)

    def __len__(self) -> int:
        """Number of rows, bad ones counted; of some formats they are counted when somebody first asks."""
        if self._count is None:
            with self._told():
                self._count = sum(_count_of(part) for part in self._parts)
        return self._count

    def __iter__(self) -> Iterator[Row]:
        """Reads the rows, in order, with little memory."""
        with self._told():
            yield from self._rows()

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Reads a table of a format with columns, at most ``rows`` rows at a time, with the columns of ``schema``."""
        with self._told():
            for part in self._parts:
                for batch in batches_of(part.path, part.format, rows):
                    columns = [
                        batch.column(field.name).cast(field.type)
                        if field.name in batch.schema.names
                        else pa.nulls(len(batch), field.type)
                        for field in self.schema
                    ]
                    yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def require(self, names: Iterable[str]) -> None:
        """Checks that columns are there.

        Raises:
            UserError: One of them is not.
        """
        wanted = tuple(names)
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise UserError(
                f"The {self.what} {self.location!r} has no column {missing[0]!r} ({columns_in_words(self.columns)}): "
                f"it needs {', '.join(wanted)}."
            )

    def _survey(self) -> tuple[pa.Schema, int | None]:
        """Columns with their types, and the number of rows where finding the columns told it."""
        if self.format in COLUMNAR:
            found = [columns_and_count(part.path, part.format) for part in self._parts]
            schema = (
                found[0][0]
                if len(found) == 1
                else pa.unify_schemas([schema for schema, _ in found], promote_options="permissive")
            )
            return schema, sum(count for _, count in found)
        known = dict.fromkeys(name for part in self._parts for name in part.columns)
        repeated = [name for part in self._parts for name in part.columns if part.columns.count(name) > 1]
        count: int | None = None
        if self.format == "jsonl":
            count = sum(_survey_json(part, known) for part in self._parts)
        elif self.format not in ("csv", "tsv"):
            count = sum(1 for _ in self._rows())
        names = [*known, *dict.fromkeys(repeated)]
        if self.format in ("lines", "parallel"):
            names = [LINE_COLUMN] if self.format == "lines" else list(self.place.columns)
        return pa.schema([(name, pa.string()) for name in names]), count

    def _refuse_columns(self) -> None:
        """Refuses JSON that holds one list or record a column, which would be read as one strange row."""
        if self.format != "jsonl" or self._count != 1:
            return
        if any(json_rows.is_by_columns(row.values) for row in self._rows()):
            raise UserError(
                f"The {self.what} {self.location!r} is a table by columns: write it by rows, with orient='records', "
                "lines=True of pandas."
            )

    def _rows(self) -> Iterator[Row]:
        if self.format == "parallel":
            return self._parallel_rows()
        return _rows_of(self._parts[0]) if len(self._parts) == 1 else self._rows_of_shards()

    def _rows_of_shards(self) -> Iterator[Row]:
        before = 0
        for part in self._parts:
            number = 0
            for row in _rows_of(part):
                number = row.number
                yield row._replace(number=before + number) if before else row
            before += number

    def _parallel_rows(self) -> Iterator[Row]:
        first, second = self.place.columns
        pairs = zip_longest(*(_rows_of(replace(part, format="lines")) for part in self._parts))
        for number, sides in enumerate(pairs, start=1):
            texts = [side.values[LINE_COLUMN] if side else None for side in sides]
            problem = None if None not in sides else NO_LINE_BESIDE
            yield Row(number, {first: texts[0], second: texts[1]}, problem)

    def _unknown_ending(self, formats: Sequence[str]) -> UserError:
        path = self.place.files[0]
        beside = sibling_lines(path)
        if beside:
            stem = path.with_suffix("")
            return UserError(
                f"The {self.what} {self.location!r} has {', '.join(f'.{ending}' for ending in beside[:5])} beside it: "
                f"for lines side by side write both endings, such as '{stem}.{{{path.suffix[1:]},{beside[0]}}}'."
            )
        return unknown_ending(self.location, path.suffix, formats, self.what)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what goes wrong in reading into one sentence."""
        try:
            yield
        except UserError:
            raise
        except (EOFError, zlib.error, lzma.LZMAError):
            raise UserError(
                f"The {self.what} {self.location!r} cannot be unpacked (it is cut off or damaged): get it again."
            ) from None
        except OSError as error:
            # pyarrow and the unpackers give some of these without a number.
            missing = next((file for file in self._files() if not file.exists()), None)
            code = errno.ENOENT if missing else error.errno
            reason = os.strerror(code) if code else "it is cut off, damaged, or not of its kind"
            name = str(missing) if missing and len(self._files()) > 1 else self.location
            raise UserError(f"The {self.what} {name!r} cannot be read ({reason}): check the path.") from None
        except (pa.ArrowException, ValueError):
            # The exception's own text may quote the content.
            kind = getattr(self, "format", None) or self._named_format()
            raise UserError(f"The {self.what} {self.location!r} is not valid {kind}: check its content.") from None

    def _files(self) -> tuple[Path, ...]:
        return self.place.files if hasattr(self, "place") else (Path(self.location),)

    def _named_format(self) -> str:
        return str(self.place.format or "text") if hasattr(self, "place") else "text"


def _unnamed_format(place: Place) -> ReadFormat | None:
    """The format of a file whose name says nothing, if its content does."""
    path = place.files[0]
    if path.suffix and ending_of(path.name):
        return None
    head = head_of(path, compression_of(path))
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    if head.startswith(ARROW_MAGIC):
        return "arrow"
    return "jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) else None


def _part_of(path: Path, named: ReadFormat) -> _Part:
    """How to read a file: by its name, and by its content where that lies."""
    compression, head = _known_head(path, named)
    if head.startswith(PARQUET_MAGIC):
        named = "parquet"
    elif head.startswith(ARROW_MAGIC):
        named = "arrow"
    if named in COLUMNAR:
        if compression:
            raise UserError(f"The file {str(path)!r} is {named} inside {compression}: unpack it.")
        return _Part(path, named)
    if named == "parallel":
        return _Part(path, named, packing_of(path, compression, old_encodings=True))
    packing = packing_of(path, compression, old_encodings=named != "jsonl")
    text = _head_text(path, packing)
    if named in ("csv", "tsv") and json_rows.begins_with_object(text):
        named, packing = "jsonl", packing_of(path, compression, old_encodings=False)
    if named == "jsonl":
        layout = json_rows.layout_of(text, whole=len(text) < HEAD_BYTES, ending=ending_of(path.name))
        return _Part(path, named, packing, layout)
    if named == "lines":
        return _Part(path, named, packing)
    part = _Part(path, named, packing, dialect=separated.Dialect())
    with _separated_lines(part) as lines:
        dialect = separated.dialect_of(lines, separator="\t" if named == "tsv" else ",")
    with _separated_lines(part) as lines:
        return replace(part, dialect=dialect, columns=tuple(separated.header_of(lines, dialect)))


def _known_head(path: Path, named: ReadFormat | None) -> tuple[str | None, bytes]:
    """How a file is compressed and its first unpacked bytes.

    Raises:
        UserError: They show that it is something else than a table.
    """
    compression = compression_of(path)
    head = head_of(path, compression)
    lines = named in ("lines", "parallel")
    problem = foreign_in(head, separated=named in ("csv", "tsv"))
    # Plain lines may be those of a page.
    if problem and not (lines and "web page" in problem):
        raise UserError(f"The file {str(path)!r} {problem}.")
    return compression, head


def _head_text(path: Path, packing: Packing) -> str:
    with opened_text(path, packing, newline="\n") as handle:
        return handle.read(HEAD_BYTES)


@contextmanager
def _separated_lines(part: _Part) -> Iterator[Utf8Lines]:
    assert part.packing is not None
    assert part.dialect is not None
    # Where marks hold fields together, line ends are their reader's business; elsewhere only a line feed ends a line.
    with opened_utf8(part.path, part.packing) as handle:
        yield Utf8Lines(handle, part.packing.errors, "\n" if part.dialect.plain else "")


def _count_of(part: _Part) -> int:
    assert part.dialect is not None
    with _separated_lines(part) as lines:
        return separated.count_rows(lines, part.dialect)


def _survey_json(part: _Part, known: dict[str, None]) -> int:
    """Number of rows; their columns are added to those that are known."""
    assert part.packing is not None
    count = 0
    if part.layout == "lines":
        with opened_utf8(part.path, part.packing) as handle:
            for objects in json_rows.objects_of_lines(handle, part.packing.errors, names_only=True):
                count += len(objects)
                known.update(dict.fromkeys(chain.from_iterable(filter(None, objects))))
        return count
    for row in _rows_of(part):
        count += 1
        known.update(dict.fromkeys(row.values))
    return count


def _rows_of(part: _Part) -> Iterator[Row]:
    if part.format in COLUMNAR:
        number = 0
        for batch in batches_of(part.path, part.format, BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)
        return
    assert part.packing is not None
    if part.dialect is not None:
        with _separated_lines(part) as lines:
            yield from separated.separated_rows(lines, part.dialect)
    elif part.format == "jsonl" and part.layout == "lines":
        with opened_utf8(part.path, part.packing) as handle:
            yield from json_rows.rows_of_lines(handle, part.packing.errors)
    else:
        with opened_text(part.path, part.packing, newline="\n") as text:
            if part.format == "jsonl":
                yield from json_rows.rows_of_values(text, part.layout)
                return
            for number, line in enumerate(text, start=1):
                yield Row(number, {LINE_COLUMN: line.rstrip("\n").removesuffix("\r")})
