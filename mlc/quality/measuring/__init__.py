"""Measures the signals that need one pair at a time: a chunk of pairs in, the columns of the signals out."""

import threading
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mlc.languages import all_languages
from mlc.quality.signals import Scope, Signal

LENGTH_RATIOS = Path(__file__).resolve().parent / "length_ratios.csv"
"""Centre and spread of ln(characters / characters of English) by language, script or ``*``, and the median length
of the English texts that they were measured on.

Made with ``python -m mlc.making.length_table FOLDER``, see there: rows with an origin are the median and 1.4826 × the
median absolute deviation over parallel texts that people wrote. They are statistics, no text of the sets is in the
project. The other rows are wide guesses by script.
"""

PAIRS = pa.schema(
    {
        "row": pa.int64(),
        "source": pa.string(),
        "translation": pa.string(),
        "source_code": pa.string(),
        "target_code": pa.string(),
        "problem": pa.string(),
        "finished": pa.bool_(),
        "logprob": pa.float64(),
    }
)
"""Columns of a chunk: its rows are numbered in ascending order; ``problem`` says what makes a row unusable."""

KEPT_FOR_BATCH = ("length_of_source", "source_key", "translation_key", "source_words")
"""Columns beside the signals that :mod:`mlc.quality.measuring.batch` needs."""

_workers = threading.local()


def sql(name: str) -> str:
    """The text of a file of SQL beside this module: what several signals share."""
    return (files("mlc.quality.measuring") / f"{name}.sql").read_text(encoding="utf-8")


@cache
def language_table() -> pa.Table:
    """``code`` and ``script`` of every language."""
    return pa.Table.from_pylist([{"code": row.code, "script": row.script} for row in all_languages()])


def measure_rows(chunk: pa.Table, signals: Sequence[Signal]) -> pa.Table:
    """Measures the signals of one chunk that need no other row.

    The result depends on nothing but the chunk, and each row of it on nothing but that row. Threads may call this at
    once; each has a DuckDB of its own, with one thread.

    Args:
        chunk: The columns of ``PAIRS``.
        signals: What to measure; of those for the batch, what :mod:`mlc.quality.measuring.batch` needs is measured.

    Returns:
        The columns of the signals that were measured and those of ``KEPT_FOR_BATCH``, in the order of the rows.
    """
    measurer = getattr(_workers, "measurer", None)
    if measurer is None:
        measurer = _workers.measurer = _Measurer()
    return measurer.measure(chunk, [signal for signal in signals if signal.scope is not Scope.MODEL])


class _Measurer:
    """A DuckDB with the macros of all signals, kept for the chunks to come."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        self.queries: dict[str, str] = {}
        self.connection.register("languages", language_table())
        self.connection.execute(sql("macros"))

    def measure(self, chunk: pa.Table, signals: Sequence[Signal]) -> pa.Table:
        self.connection.register("pairs", _without_nul(chunk.select(PAIRS.names)))
        self.connection.execute(sql("prepare"))
        columns: dict[str, pa.ChunkedArray] = {}
        for signal in signals:
            query = self._query(signal)
            if signal.prepare is not None:
                signal.prepare(self.connection)
            measured = self.connection.sql(query).to_arrow_table()
            columns |= {name: measured[name] for name in measured.column_names if name != "row"}
        self.connection.execute("DROP TABLE texts")
        self.connection.unregister("pairs")
        return pa.table(columns)

    def _query(self, signal: Signal) -> str:
        """The query of a signal, for every row in order; its macros are made when it is first asked for."""
        if signal.name not in self.queries:
            if signal.begin is not None:
                signal.begin(self.connection)
            *macros, query = self.connection.extract_statements(signal.measure)
            for macro in macros:
                self.connection.execute(macro)
            self.queries[signal.name] = (
                f"SELECT measured.* EXCLUDE (row) FROM texts LEFT JOIN ({query.query}) AS measured USING (row) "
                "ORDER BY texts.row"
            )
        return self.queries[signal.name]


def _without_nul(chunk: pa.Table) -> pa.Table:
    """NUL as U+FFFD, because some functions of DuckDB stop reading at it."""
    for place, name in enumerate(chunk.column_names):
        if name in ("source", "translation") and pc.any(pc.match_substring(chunk[name], "\0")).as_py():
            chunk = chunk.set_column(place, name, pc.replace_substring(chunk[name], "\0", "\ufffd"))
    return chunk


def add_length_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables ``languages`` and ``length_ratios``."""
    connection.register("languages", language_table())
    connection.execute("CREATE TEMP TABLE length_ratios AS FROM read_csv(?, header = true)", [str(LENGTH_RATIOS)])
