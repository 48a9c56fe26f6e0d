"""Small things that measuring and deciding both do to tables of pairs."""

import pyarrow as pa

from mlc.errors import UserError

REQUIRED_COLUMNS = ("source", "translation", "source_language", "target_language")


def numbered(table: pa.Table, first: int = 0) -> pa.Table:
    """Adds the row number: DuckDB promises no order without one."""
    return table.append_column("row", pa.array(range(first, first + table.num_rows), pa.int64()))


def with_columns(table: pa.Table, added: pa.Table) -> pa.Table:
    """A table with more columns; those that were there are replaced."""
    kept = table.drop_columns([name for name in table.column_names if name in added.column_names])
    for name in added.column_names:
        kept = kept.append_column(name, added[name])
    return kept


def require_columns(table: pa.Table, names: tuple[str, ...], remedy: str) -> None:
    """Refuses a table that lacks a column.

    Raises:
        UserError: It does.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise UserError(f"The table of translations lacks {', '.join(missing)}: {remedy}.")
