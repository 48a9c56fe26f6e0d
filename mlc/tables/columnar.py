"""Parquet and Arrow files: batches of columns.

A column of class numbers whose names stand in the file, as the library ``datasets`` writes a ``ClassLabel``, is read as
a column of these names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"
"""How an Arrow file begins; a stream of Arrow, as the library ``datasets`` writes it, has no such mark."""
_DATASETS = b"huggingface"
"""Key of what the library ``datasets`` says of the columns."""


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
    """A schema without its metadata, whose names have been read once; classes are text.

    Raises:
        ValueError: A name is no text.
    """
    own = [field.with_name(field.name) for field in schema]
    classes = _classes(schema)
    return pa.schema([field.with_type(pa.string()) if field.name in classes else field for field in own])


def _classes(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of classes by column."""
    try:
        features = json.loads((schema.metadata or {})[_DATASETS])["info"]["features"]
        named = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {
        name: names
        for name, names in named.items()
        if schema.names.count(name) == 1 and pa.types.is_integer(schema.field(name).type)
    }


def _with_names(batch: pa.RecordBatch, classes: Mapping[str, Sequence[str]]) -> pa.RecordBatch:
    for column, names in classes.items():
        # A negative number stands for no class.
        texts = [
            None if number is None or number < 0 else names[number] if number < len(names) else str(number)
            for number in batch.column(column).to_pylist()
        ]
        batch = batch.set_column(batch.schema.names.index(column), column, pa.array(texts, pa.string()))
    return batch


def batches_of(path: Path, format: str, rows: int) -> Iterator[pa.RecordBatch]:
    """Reads a file, at most ``rows`` rows at a time."""
    if format == "parquet":
        with pq.ParquetFile(path) as file:
            classes = _classes(file.schema_arrow)
            for batch in file.iter_batches(rows):
                yield _with_names(batch, classes)
        return
    with _reader(path) as reader:
        classes = _classes(reader.schema)
        for batch in _batches(reader):
            for start in range(0, batch.num_rows, rows):
                yield _with_names(batch.slice(start, rows), classes)


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
