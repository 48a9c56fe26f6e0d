"""Pairs of source and translation in files of any size: read in chunks, whatever is wrong with some rows."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.choices import Format
from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.quality.measuring.tables import CHUNK_BYTES, CHUNK_ROWS
from mlc.quality.rows import REQUIRED_COLUMNS
from mlc.shapes.pairs import pair_reading
from mlc.store.drafts import draft_file
from mlc.tables import TABLE_ENDINGS, Row, TableFile, columns_in_words, format_of, plain_text, writing_told
from mlc.tables.reader import COLUMNAR
from mlc.tables.separated import quoted_header

TEXTS = (*REQUIRED_COLUMNS, "back_translation")
"""Columns that hold text whatever the format."""
WHAT = "file of translations"


class PairFile:
    """A file of pairs.

    Args:
        location: A table in any format, see :func:`mlc.tables.find_place`, with the columns ``source``,
            ``translation``, ``source_language`` and ``target_language`` or in another known shape;
            ``back_translation``, ``logprob`` and ``finished`` are read where they are there, and all other columns are
            carried along.
        columns: Columns of the file by role, where a person says so.
        source_language: Language of all sources; named by a column if None.
        target_language: Language of all translations; named by a column if None.

    Raises:
        UserError: The file cannot be read, or lacks a column.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        columns: Mapping[str, str] | None = None,
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> None:
        self.table = TableFile(location, formats=TABLE_ENDINGS, what=WHAT)
        self.reading = pair_reading(
            self.table, columns=columns, source_language=source_language, target_language=target_language
        )
        if len(self.table) and self.reading.missing:
            missing = self.reading.missing
            raise UserError(
                f"The {WHAT} {self.table.location!r} has no column {missing[0]!r} "
                f"({columns_in_words(self.table.columns)}): it needs {', '.join(REQUIRED_COLUMNS)}; say which columns "
                "they are, or in which languages all rows are.",
                about="pair columns",
            )
        used = {*self.reading.columns.values(), *(["translation"] if self.reading.records else [])}
        self._others = {
            name: f"file_{name}" if name in REQUIRED_COLUMNS else name
            for name in self.table.columns
            if name not in used
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood of the file that does not go without saying, for people."""
        told = (", ".join(self.table.notes), self.reading.in_words)
        return tuple(f"{self.table.location}: {words}." for words in told if words)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the chunks: those that are required under their own names, the others as the file has them."""
        roles = {name: role for role, name in self.reading.columns.items()}
        fields = []
        for field in self.table.schema:
            if field.name in roles:
                fields.append(pa.field(roles[field.name], pa.string()))
            elif field.name in self._others:
                fields.append(field.with_name(self._others[field.name]))
        there = {field.name for field in fields}
        return pa.schema([*fields, *(pa.field(name, pa.string()) for name in REQUIRED_COLUMNS if name not in there)])

    @property
    def json_columns(self) -> frozenset[str]:
        """Columns whose values are JSON, so that a number stays one in JSON Lines."""
        names = self.schema.names if self.table.format == "jsonl" else ()
        return frozenset(name for name in names if name not in TEXTS)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.table)

    def chunks(self) -> Iterator[tuple[pa.Table, pa.Array]]:
        """Reads the rows in order.

        Yields:
            The columns of ``schema``, and for each row what makes it impossible to read, or NULL.
        """
        if self.table.format in COLUMNAR and not self.reading.records:
            yield from self._columnar_chunks()
            return
        rows: list[Row] = []
        size = 0
        for row in self.table:
            rows.append(row)
            size += sum(len(value) for value in row.values.values() if isinstance(value, str))
            if len(rows) == CHUNK_ROWS or size > CHUNK_BYTES // 4:
                yield self._table(rows)
                rows, size = [], 0
        if rows:
            yield self._table(rows)

    def _columnar_chunks(self) -> Iterator[tuple[pa.Table, pa.Array]]:
        files = {**self.reading.columns, **{new: old for old, new in self._others.items()}}
        for batch in self.table.batches(CHUNK_ROWS):
            whole = pa.Table.from_batches([batch])
            columns = []
            for field in self.schema:
                if field.name in self.reading.constants:
                    columns.append(pa.array([self.reading.constants[field.name]] * len(whole), pa.string()))
                else:
                    column = whole[files[field.name]]
                    columns.append(_as_text(column) if field.name in REQUIRED_COLUMNS else column)
            chunk = pa.table(columns, names=self.schema.names)
            start = 0
            while start < len(chunk):
                part = chunk.slice(start, CHUNK_ROWS)
                while part.nbytes > CHUNK_BYTES and len(part) > 1:
                    part = part.slice(0, (len(part) + 1) // 2)
                yield part, pa.nulls(len(part), pa.string())
                start += len(part)

    def _table(self, rows: Sequence[Row]) -> tuple[pa.Table, pa.Array]:
        found = [self.reading.values(row) for row in rows]
        problems = [
            row.problem
            or next((problem for name in REQUIRED_COLUMNS if (problem := _not_text(values.get(name)))), None)
            for row, values in zip(rows, found, strict=True)
        ]
        files = {new: old for old, new in self._others.items()}
        as_json = self.json_columns
        columns = {
            name: [values.get(name) for values in found]
            if name in REQUIRED_COLUMNS
            else [row.values.get(files[name]) for row in rows]
            for name in self.schema.names
        }
        texts = {
            name: [(_json if name in as_json else plain_text)(value) for value in columns[name]] for name in columns
        }
        return pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()}), pa.array(
            problems, pa.string()
        )


def coded(chunk: pa.Table, problems: pa.Array, first: int) -> pa.Table:
    """What is measured of a chunk: the columns of :data:`mlc.quality.measuring.PAIRS`.

    Args:
        chunk: From :meth:`PairFile.chunks`.
        problems: From :meth:`PairFile.chunks`.
        first: Number of the first row.
    """
    codes = {}
    for side in ("source", "target"):
        names = chunk[f"{side}_language"].combine_chunks().dictionary_encode()
        found = [_code_of(name, side) for name in names.dictionary.to_pylist()]
        codes[side] = pa.array([code for code, _ in found], pa.string()).take(names.indices)
        wrong = pa.array([problem for _, problem in found], pa.string()).take(names.indices)
        problems = pc.coalesce(problems, wrong)
        missing = pc.if_else(names.indices.is_null(), pa.scalar(f"the {side} language is missing"), None)
        problems = pc.coalesce(problems, missing.cast(pa.string()))
    return pa.table(
        {
            "row": pa.array(range(first, first + len(chunk)), pa.int64()),
            "source": chunk["source"],
            "translation": chunk["translation"],
            "source_code": codes["source"],
            "target_code": codes["target"],
            "problem": problems,
            "finished": _numbers(chunk, "finished", pa.bool_()),
            "logprob": _numbers(chunk, "logprob", pa.float64()),
        }
    )


class VerdictWriter:
    """Writes tables to one file, which is there when it is complete.

    Args:
        path: JSON Lines, CSV, TSV or Parquet, by its ending.
        schema: Columns of the tables.
        json_columns: Columns whose values are JSON.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, json_columns: Collection[str] = ()) -> None:
        self.path = path
        self.json_columns = tuple(name for name in schema.names if name in json_columns)
        self.format: Format = format_of(path, formats=TABLE_ENDINGS, what="file of verdicts")
        self.schema = schema
        self._opened = ExitStack()
        draft = self._opened.enter_context(draft_file(path))
        self._part = draft.with_suffix(".part")
        with writing_told(self.path):
            if self.format == "parquet":
                self._parquet: Any = pq.ParquetWriter(draft, schema, compression="zstd")
            else:
                self._handle = draft.open("wb")
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing_told(self.path):
            if kind is None and not self._started:
                self.write(self.schema.empty_table())
            (self._parquet if self.format == "parquet" else self._handle).close()
            self._part.unlink(missing_ok=True)
            self._opened.__exit__(kind, error, trace)

    def write(self, table: pa.Table) -> None:
        """Adds rows.

        Raises:
            UserError: The disk is full, or the file cannot be written for another reason.
        """
        with writing_told(self.path):
            if self.format == "parquet":
                self._parquet.write_table(self._plain(table).cast(self.schema))
            else:
                self._append(table)
        self._started = True

    def _append(self, table: pa.Table) -> None:
        kinds = {
            "jsonl": "FORMAT json",
            "csv": f"FORMAT csv, HEADER {not self._started}",
            "tsv": "FORMAT csv, DELIMITER '\t', HEADER false",
        }
        if self.format == "tsv" and not self._started:
            self._handle.write(quoted_header(self.schema.names).encode())
        with duckdb.connect(config={"threads": 1}) as connection:
            if self.format == "jsonl":
                changed = [f"{_name(name)}::JSON AS {_name(name)}" for name in self.json_columns]
            else:
                table = self._plain(table)
                # One field of a CSV holds one text.
                lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
                changed = [f"array_to_string({_name(name)}, ' ') AS {_name(name)}" for name in lists]
            chosen = f"* REPLACE ({', '.join(changed)})" if changed else "*"
            connection.register("rows", table)
            connection.execute(f"COPY (SELECT {chosen} FROM rows) TO '{_quoted(self._part)}' ({kinds[self.format]})")
        with self._part.open("rb") as part:
            while block := part.read(1 << 20):
                self._handle.write(block)

    def _plain(self, table: pa.Table) -> pa.Table:
        """A table with texts in place of JSON."""
        for name in self.json_columns:
            values = [None if text is None else plain_text(json.loads(text)) for text in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
        return table


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _json(value: object) -> str | None:
    return None if value is None else plain_text(json.dumps(value, ensure_ascii=False, default=str))


def _not_text(value: object) -> str | None:
    if isinstance(value, list | dict | bool):
        return "a field that holds no text"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "half a surrogate pair, or bytes that are not UTF-8"
    return None


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_nested(column.type):
        return pa.chunked_array([pa.array([plain_text(value) for value in column.to_pylist()], pa.string())])
    return column.cast(pa.string())


def _code_of(name: str, side: str) -> tuple[str | None, str | None]:
    """The NLLB code of a language that somebody wrote, and what is wrong with it."""
    try:
        return resolve_language(name).code, None
    except UserError as error:
        text = str(error).rstrip(".?")
        return None, f"{side} language: {text[0].lower()}{text[1:]}"


def _numbers(chunk: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of numbers or truth values; NULL where it is something else."""
    if name not in chunk.column_names:
        return pa.chunked_array([pa.nulls(len(chunk), kind)])
    column = chunk[name]
    if column.type == kind:
        return column
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("chunk", pa.table({"value": column}))
        target = "BOOLEAN" if pa.types.is_boolean(kind) else "DOUBLE"
        return connection.sql(f"SELECT TRY_CAST(value AS {target}) AS value FROM chunk").to_arrow_table()["value"]
