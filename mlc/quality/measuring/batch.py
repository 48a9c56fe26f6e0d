"""The signals that need all rows: what length and ending are usual, and which translations several sources share."""

from dataclasses import dataclass
from typing import Self

import duckdb
import pyarrow as pa

from mlc.quality.measuring import add_length_table, sql

NEEDED = (
    "row",
    "source_code",
    "target_code",
    "signal_copied",
    "signal_ending_kept",
    "signal_length_log_ratio",
    "length_of_source",
    "source_key",
    "translation_key",
    "source_words",
)
"""Columns of the table ``measured`` that is read; where a signal was not measured, they are NULL."""
TYPES = {"row": "BIGINT", "source_code": "VARCHAR", "target_code": "VARCHAR", "signal_copied": "DOUBLE"} | {
    "signal_ending_kept": "BOOLEAN",
    "signal_length_log_ratio": "DOUBLE",
    "length_of_source": "BIGINT",
    "source_key": "UBIGINT",
    "translation_key": "UBIGINT",
    "source_words": "BIGINT",
}


@dataclass(frozen=True)
class Batch:
    """What all rows together say."""

    connection: duckdb.DuckDBPyConnection
    """Holds the table ``collapsed``."""
    centres: pa.Table
    """``source_code``, ``target_code``, ``centre``, ``spread``, ``ending_habit`` of each pair of languages."""

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, batch_rows: int | None) -> Self:
        """Looks at all rows.

        Args:
            connection: Has a table or view ``measured`` with the columns ``NEEDED``.
            batch_rows: Rows of a pair of languages from which its usual length is estimated from them; None = never.
        """
        add_length_table(connection)
        connection.execute(sql("lengths"))
        connection.execute("SET VARIABLE batch_rows = ?::BIGINT", [batch_rows])
        centres = connection.sql(sql("centres")).to_arrow_table()
        connection.execute(sql("collapse"))
        return cls(connection, centres)

    def collapsed(self, first: int, last: int) -> pa.Table:
        """``row`` and ``sources`` of the rows of a range whose translation other sources have too."""
        return self.connection.sql(
            "SELECT row, sources FROM collapsed WHERE row BETWEEN ? AND ?", params=[first, last]
        ).to_arrow_table()


def batch_signals(chunk: pa.Table, centres: pa.Table, collapsed: pa.Table) -> pa.Table:
    """``signal_length_z``, ``signal_ending_kept``, ``signal_collapsed_sources`` of a chunk, in the order of its rows.

    Args:
        chunk: The columns ``NEEDED``.
        centres: See :class:`Batch`.
        collapsed: See :meth:`Batch.collapsed`.
    """
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("chunk", chunk.select(list(NEEDED)))
        connection.register("centres", centres)
        connection.register("collapsed", collapsed)
        connection.execute(sql("lengths"))
        return connection.sql(sql("batch")).to_arrow_table()
