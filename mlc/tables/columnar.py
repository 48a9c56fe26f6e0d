"""Parquet and Arrow files: batches of columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"
"""How an Arrow file begins; a stream of Arrow, as the library ``datasets`` writes it, has no such mark."""


def columns_and_count(path: Path, format: str) -> tuple[pa.Schema, int]:
    """The columns of a file with their types, and the number of its rows.

    Raises:
        pyarrow.ArrowException: The file is damaged.
        ValueError: It is damaged.
    """
    if format == "parquet":
        with pq.ParquetFile(path) as file:
            return _named(file.schema_arrow), file.metadata.num_rows
    with _reader(path) as reader:
        count = sum(batch.num_rows for batch in _batches(reader))
        return _named(reader.schema), count


def _named(schema: pa.Schema) -> pa.Schema:
    """A schema without its metadata, whose names have been read once.

    Raises:
        ValueError: A name is no text.
    """
    return pa.schema([field.with_name(field.name) for field in schema])


def batches_of(path: Path, format: str, rows: int) -> Iterator[pa.RecordBatch]:
    """Reads a file, at most ``rows`` rows at a time."""
    if format == "parquet":
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(rows)
        return
    with _reader(path) as reader:
        for batch in _batches(reader):
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    with path.open("rb") as handle:
        is_file = handle.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    with pa.memory_map(str(path)) as source:
        yield pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    """Batches whose texts and lists lie inside the file: what does not ends the process when it is read.

    Raises:
        pyarrow.ArrowException: The file is damaged.
    """
    places = range(reader.num_record_batches) if hasattr(reader, "num_record_batches") else None
    for batch in reader if places is None else map(reader.get_batch, places):
        batch.validate(full=True)
        yield batch
