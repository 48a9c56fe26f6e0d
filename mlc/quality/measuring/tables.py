"""Measures tables of pairs that fit into memory; :mod:`mlc.quality.streaming` does the same to files of any size."""

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mlc.errors import UserError
from mlc.languages import all_languages
from mlc.quality.measuring import PAIRS, measure_rows
from mlc.quality.measuring.batch import NEEDED, TYPES, Batch, batch_signals
from mlc.quality.rows import REQUIRED_COLUMNS, numbered, require_columns, with_columns
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import TEXT_SIGNALS, Signal
from mlc.stopping import ShouldStop, never, stop_if

CHUNK_ROWS = 8_000
"""Rows that are measured at once: enough to pay for the planning of the queries, few enough for the memory."""
CHUNK_BYTES = 32_000_000
"""Bytes of text that are measured at once, where rows are long."""


def compute_signals(
    pairs: pa.Table,
    *,
    signals: Sequence[Signal] = TEXT_SIGNALS,
    batch_rows: int | None = QualitySettings.model_fields["length_batch_rows"].default,
    should_stop: ShouldStop = never,
) -> pa.Table:
    """Measures signals of every pair.

    Args:
        pairs: Columns ``source``, ``translation`` (may be NULL), ``source_language``, ``target_language`` (NLLB
            codes); optional ``finished`` (bool: generation ended by itself) and ``logprob`` (mean a token).
        signals: What to measure; signals that need a model are not measured here.
        batch_rows: ``QualitySettings.length_batch_rows``.
        should_stop: Looked at before each chunk of rows.

    Returns:
        The input, rows in the same order and other columns untouched, with one column a stored signal; signal
        columns that were there are replaced.

    Raises:
        UserError: A column is missing, a value other than ``translation`` is NULL, or a language is unknown.
        Stopped: It was asked to stop.
    """
    _check_pairs(pairs)
    chunks = []
    for chunk in chunks_of(numbered_pairs(pairs)):
        stop_if(should_stop)
        chunks.append(with_columns(chunk, measure_rows(chunk, signals)))
    measured = pa.concat_tables(chunks)
    with duckdb.connect(config={"threads": 1}) as connection:
        needed = for_batch(measured)
        connection.register("measured", needed)
        batch = Batch.of(connection, batch_rows)
        late = batch_signals(needed, batch.centres, batch.collapsed(0, len(pairs)))
    names = [column.name for signal in signals for column in signal.columns]
    return with_columns(pairs, with_columns(measured, late).select(names))


def numbered_pairs(pairs: pa.Table) -> pa.Table:
    """The columns of ``PAIRS``, from pairs whose languages are NLLB codes."""
    renamed = {"source_code": "source_language", "target_code": "target_language"}
    columns = {}
    for field in PAIRS:
        name = renamed.get(field.name, field.name)
        present = name in pairs.column_names and name not in ("row", "problem")
        columns[field.name] = pairs[name].cast(field.type) if present else pa.nulls(len(pairs), field.type)
    return numbered(pa.table(columns).drop_columns(["row"]))


def chunks_of(table: pa.Table) -> Iterator[pa.Table]:
    """Cuts a table into pieces of limited rows and bytes; one piece at least, even if it is empty."""
    start = 0
    while True:
        chunk = table.slice(start, CHUNK_ROWS)
        while chunk.nbytes > CHUNK_BYTES and len(chunk) > 1:
            chunk = chunk.slice(0, (len(chunk) + 1) // 2)
        yield chunk
        start += len(chunk)
        if start >= len(table):
            return


def for_batch(measured: pa.Table) -> pa.Table:
    """The columns that :mod:`mlc.quality.measuring.batch` reads; NULL where their signal was not measured."""
    types = {"BIGINT": pa.int64(), "UBIGINT": pa.uint64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string()}
    types["BOOLEAN"] = pa.bool_()
    return pa.table(
        {
            name: measured[name] if name in measured.column_names else pa.nulls(len(measured), types[TYPES[name]])
            for name in NEEDED
        }
    )


def _check_pairs(pairs: pa.Table) -> None:
    require_columns(pairs, REQUIRED_COLUMNS, f"it needs the columns {', '.join(REQUIRED_COLUMNS)}")
    for name in ("source", "source_language", "target_language"):
        if pairs[name].null_count:
            raise UserError(
                f"The column {name} of the translations has {pairs[name].null_count} empty values: fill or drop them."
            )
    known = {language.code for language in all_languages()}
    used = {code for name in ("source_language", "target_language") for code in pc.unique(pairs[name]).to_pylist()}
    if unknown := sorted(used - known):
        raise UserError(
            f"The translations name the unknown language {', '.join(map(repr, unknown))}: "
            "use NLLB codes such as swh_Latn.",
            about="language list",
        )
