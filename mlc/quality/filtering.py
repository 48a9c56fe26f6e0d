"""Measures translations, then decides which to keep.

The two are apart: signals are measured once and stored, and a changed threshold only needs :func:`decide`.
"""

from importlib.resources import files

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mlc.errors import UserError
from mlc.languages import all_languages
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import SIGNAL_COLUMNS, SIGNALS, Signal

REQUIRED_COLUMNS = ("source", "translation", "source_language", "target_language")
VERDICT_COLUMNS = ("keep", "reason", "reasons")


def compute_signals(pairs: pa.Table) -> pa.Table:
    """Measures every signal of every pair.

    Args:
        pairs: Columns ``source``, ``translation`` (may be NULL), ``source_language``, ``target_language`` (NLLB
            codes); optional ``finished`` (bool: generation ended by itself) and ``logprob`` (mean a token).

    Returns:
        The input, rows in the same order and other columns untouched, with one column a stored signal; signal
        columns that were there are replaced.

    Raises:
        UserError: A column is missing, a value other than ``translation`` is NULL, or a language is unknown.
    """
    _check_pairs(pairs)
    with duckdb.connect() as connection:
        _load_pairs(connection, pairs)
        for signal in SIGNALS:
            _measure(connection, signal)
        joins = " ".join(f"LEFT JOIN signal_{signal.name} USING (row)" for signal in SIGNALS)
        columns = ", ".join(SIGNAL_COLUMNS)
        measured = connection.sql(f"SELECT {columns} FROM texts {joins} ORDER BY row").to_arrow_table()
    return _with_columns(pairs, measured)


def decide(signals: pa.Table, settings: QualitySettings) -> pa.Table:
    """Decides which rows to keep, from the stored signals alone.

    Args:
        signals: Output of :func:`compute_signals`; of its other columns only ``target_language`` is read.
        settings: Thresholds.

    Returns:
        The input with ``keep`` (bool), ``reason`` (the first failing rule in the order of ``SIGNALS``, NULL when
        kept) and ``reasons`` (all of them); such columns that were there are replaced.

    Raises:
        UserError: A signal or ``target_language`` is missing.
    """
    _require(signals, ("target_language", *SIGNAL_COLUMNS), "run the filter again to measure them")
    rules = ", ".join(f"CASE WHEN coalesce({signal.fails}, FALSE) THEN '{signal.name}' END" for signal in SIGNALS)
    with duckdb.connect() as connection:
        connection.register("signals", _numbered(signals.select(["target_language", *SIGNAL_COLUMNS])))
        connection.register("limits", _limits(signals, settings))
        verdicts = connection.sql(_sql("decide").replace("/* rules */", rules)).to_arrow_table()
    return _with_columns(signals, verdicts)


def filter_pairs(pairs: pa.Table, settings: QualitySettings) -> pa.Table:
    """Measures and decides: ``decide(compute_signals(pairs), settings)``."""
    return decide(compute_signals(pairs), settings)


def _sql(name: str) -> str:
    return (files("mlc.quality") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def _load_pairs(connection: duckdb.DuckDBPyConnection, pairs: pa.Table) -> None:
    optional = {"finished": pa.bool_(), "logprob": pa.float64()}
    columns = {name: pairs[name].cast(pa.string()) for name in REQUIRED_COLUMNS}
    for name, kind in optional.items():
        present = name in pairs.column_names
        columns[name] = pairs[name].cast(kind) if present else pa.nulls(pairs.num_rows, kind)
    languages = [{"code": language.code, "script": language.script} for language in all_languages()]
    connection.register("pairs", _numbered(pa.table(columns)))
    connection.register("languages", pa.Table.from_pylist(languages))
    connection.execute(_sql("prepare"))


def _measure(connection: duckdb.DuckDBPyConnection, signal: Signal) -> None:
    """Stores a signal in a table of its own: macros of its SQL file first, then its last statement, the query."""
    if signal.prepare is not None:
        signal.prepare(connection)
    *macros, query = connection.extract_statements(_sql(signal.name))
    for macro in macros:
        connection.execute(macro)
    connection.execute(f"CREATE TEMP TABLE signal_{signal.name} AS {query.query}")


def _limits(signals: pa.Table, settings: QualitySettings) -> pa.Table:
    codes = sorted(code for code in pc.unique(signals["target_language"]).to_pylist() if code is not None)
    rows = [{"target_language": code, **settings.thresholds(code).model_dump()} for code in codes]
    names = ("target_language", *type(settings.default).model_fields)
    return pa.table(
        {
            name: pa.array([row[name] for row in rows], pa.string() if name == "target_language" else pa.float64())
            for name in names
        }
    )


def _numbered(table: pa.Table) -> pa.Table:
    """Adds the row number: DuckDB promises no order without one."""
    return table.append_column("row", pa.array(range(table.num_rows), pa.int64()))


def _with_columns(table: pa.Table, added: pa.Table) -> pa.Table:
    kept = table.drop_columns([name for name in table.column_names if name in added.column_names])
    for name in added.column_names:
        kept = kept.append_column(name, added[name])
    return kept


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
            "use NLLB codes such as swh_Latn; `mlc languages` lists them."
        )
