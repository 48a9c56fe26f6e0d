"""Tables that are written, a few rows at a time, and are there when they are complete."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.choices import Format
from mlc.errors import UserError
from mlc.store.drafts import draft_file
from mlc.store.plain import as_cell
from mlc.tables.formats import LINE_COLUMN
from mlc.tables.rows import plain_text, unicode_only
from mlc.tables.separated import quoted_header

_SEPARATORS: dict[Format, str] = {"csv": ",", "tsv": "\t"}


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
                    self._handle.write(unicode_only(text) + "\n")
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
        if self.format == "tsv":
            self._handle.write(quoted_header(self.schema.names))
        elif self.format == "csv":
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
