"""Measures translations, then decides which to keep.

The two are apart: signals are measured once and stored, and a changed threshold only needs :func:`decide`. This module
takes tables that fit into memory; :mod:`mlc.quality.streaming` does the same to files of any size.
"""

from collections.abc import Iterable, Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mlc.errors import UserError
from mlc.languages import all_languages
from mlc.quality.batch import NEEDED, TYPES, Batch, batch_signals
from mlc.quality.calibration import quality_expression
from mlc.quality.measuring import PAIRS, chosen_signals, measure_rows, sql
from mlc.quality.settings import QualitySettings, Thresholds
from mlc.quality.signals import RULES, SIGNAL_COLUMNS, SIGNALS, TEXT_SIGNALS, Signal

REQUIRED_COLUMNS = ("source", "translation", "source_language", "target_language")
VERDICT_COLUMNS = ("quality", "keep", "reason", "reasons")
CHUNK_ROWS = 20_000
"""Rows that are measured at once: enough to pay for the planning of the queries, few enough for the memory."""
CHUNK_BYTES = 32_000_000
"""Bytes of text that are measured at once, where rows are long."""


def compute_signals(
    pairs: pa.Table,
    *,
    signals: Sequence[Signal] = TEXT_SIGNALS,
    batch_rows: int | None = QualitySettings.model_fields["length_batch_rows"].default,
) -> pa.Table:
    """Measures signals of every pair.

    Args:
        pairs: Columns ``source``, ``translation`` (may be NULL), ``source_language``, ``target_language`` (NLLB
            codes); optional ``finished`` (bool: generation ended by itself) and ``logprob`` (mean a token).
        signals: What to measure; signals that need a model are not measured here.
        batch_rows: ``QualitySettings.length_batch_rows``.

    Returns:
        The input, rows in the same order and other columns untouched, with one column a stored signal; signal
        columns that were there are replaced.

    Raises:
        UserError: A column is missing, a value other than ``translation`` is NULL, or a language is unknown.
    """
    _check_pairs(pairs)
    chunks = list(chunks_of(numbered_pairs(pairs)))
    measured = pa.concat_tables([with_columns(chunk, measure_rows(chunk, signals)) for chunk in chunks])
    with duckdb.connect(config={"threads": 1}) as connection:
        needed = for_batch(measured)
        connection.register("measured", needed)
        batch = Batch.of(connection, batch_rows)
        late = batch_signals(needed, batch.centres, batch.collapsed(0, len(pairs)))
    names = [column.name for signal in signals for column in signal.columns]
    return with_columns(pairs, with_columns(measured, late).select(names))


def decide(signals: pa.Table, settings: QualitySettings, *, rules: Iterable[str] | None = None) -> pa.Table:
    """Decides which rows to keep, from the stored signals alone.

    Args:
        signals: Output of :func:`compute_signals`; of its other columns only ``target_language`` is read, and
            ``source_language`` if it is there.
        settings: Thresholds.
        rules: Names of the rules that may drop a row; if not given, all whose signals are there, and those of the text
            signals in any case.

    Returns:
        The input with ``quality`` (calibrated, 0 to 1), ``keep`` (bool), ``reason`` (the first failing rule in the
        order of ``RULES``, NULL when kept) and ``reasons`` (all of them); such columns that were there are replaced.

    Raises:
        UserError: A signal that a rule needs is missing, or ``target_language`` is.
    """
    needed = TEXT_SIGNALS if rules is None else chosen_signals(name for name in rules if name != "quality")
    columns = tuple(column.name for signal in needed for column in signal.columns)
    _require(signals, ("target_language", *columns), "run the filter again to measure them")
    codes = {"target_code": signals["target_language"].cast(pa.string())}
    has_source = "source_language" in signals.column_names
    codes["source_code"] = (
        signals["source_language"].cast(pa.string()) if has_source else pa.nulls(len(signals), pa.string())
    )
    stored = [name for name in SIGNAL_COLUMNS if name in signals.column_names]
    table = numbered(with_columns(pa.table(codes), signals.select(stored)))
    return with_columns(signals, judge(table, settings, RULES if rules is None else tuple(rules)))


def filter_pairs(pairs: pa.Table, settings: QualitySettings) -> pa.Table:
    """Measures and decides: ``decide(compute_signals(pairs), settings)``."""
    return decide(compute_signals(pairs, batch_rows=settings.length_batch_rows), settings)


def judge(chunk: pa.Table, settings: QualitySettings, rules: Sequence[str]) -> pa.Table:
    """The columns ``VERDICT_COLUMNS`` of a chunk, in the order of its rows.

    Args:
        chunk: ``row``, ``source_code``, ``target_code`` and signals; those that are not there count as not applicable.
        settings: Thresholds.
        rules: Names of the rules that may drop a row.
    """
    absent = [
        f"NULL::{column.kind} AS {column.name}"
        for signal in SIGNALS
        for column in signal.columns
        if column.name not in chunk.column_names
    ]
    # What cannot be read has no quality, although nothing speaks against it.
    quality = f"CASE WHEN signal_problem IS NULL THEN {quality_expression()} ELSE 0.0 END AS quality"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("chunk", chunk)
        connection.execute(
            f"CREATE TEMP VIEW signals AS SELECT *, {quality} FROM (SELECT {', '.join(['*', *absent])} FROM chunk)"
        )
        connection.register("limits", _limits(chunk, settings))
        return connection.sql(sql("decide"), params={"rules": list(rules)}).to_arrow_table()


def numbered_pairs(pairs: pa.Table) -> pa.Table:
    """The columns of ``PAIRS``, from pairs whose languages are NLLB codes."""
    renamed = {"source_code": "source_language", "target_code": "target_language"}
    columns = {}
    for field in PAIRS:
        name = renamed.get(field.name, field.name)
        present = name in pairs.column_names and name not in ("row", "problem")
        columns[field.name] = pairs[name].cast(field.type) if present else pa.nulls(len(pairs), field.type)
    return numbered(pa.table(columns).drop_columns(["row"]))


def numbered(table: pa.Table, first: int = 0) -> pa.Table:
    """Adds the row number: DuckDB promises no order without one."""
    return table.append_column("row", pa.array(range(first, first + table.num_rows), pa.int64()))


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
    """The columns that :mod:`mlc.quality.batch` reads; NULL where their signal was not measured."""
    types = {"BIGINT": pa.int64(), "UBIGINT": pa.uint64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string()}
    return pa.table(
        {
            name: measured[name] if name in measured.column_names else pa.nulls(len(measured), types[TYPES[name]])
            for name in NEEDED
        }
    )


def with_columns(table: pa.Table, added: pa.Table) -> pa.Table:
    """A table with more columns; those that were there are replaced."""
    kept = table.drop_columns([name for name in table.column_names if name in added.column_names])
    for name in added.column_names:
        kept = kept.append_column(name, added[name])
    return kept


def _limits(signals: pa.Table, settings: QualitySettings) -> pa.Table:
    pairs = signals.select(["source_code", "target_code"]).group_by(["source_code", "target_code"]).aggregate([])
    rows = sorted({(row["source_code"], row["target_code"]) for row in pairs.to_pylist()}, key=str)
    thresholds = [settings.thresholds(target or "", *([source] if source else [])) for source, target in rows]
    return pa.table(
        {
            "source_code": pa.array([source for source, _ in rows], pa.string()),
            "target_code": pa.array([target for _, target in rows], pa.string()),
            **{
                name: pa.array([getattr(each, name) for each in thresholds], pa.float64())
                for name in Thresholds.model_fields
            },
        }
    )


def _require(table: pa.Table, names: tuple[str, ...], remedy: str) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise UserError(f"The table of translations lacks {', '.join(missing)}: {remedy}.")


def _check_pairs(pairs: pa.Table) -> None:
    _require(pairs, REQUIRED_COLUMNS, f"it needs the columns {', '.join(REQUIRED_COLUMNS)}")
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
