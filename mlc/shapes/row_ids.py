"""Whether the ids of a table are a person's, or the row numbers of a file that has none: only like ids pair prompts."""

import pyarrow as pa

from mlc.errors import UserError

_ROWS = "rows_without_ids"


def with_row_ids(table: pa.Table, rows: int, part: str = "") -> pa.Table:
    """A table that says that its ids are row numbers.

    Args:
        table: The table.
        rows: How many rows the file has, those that were set aside too.
        part: Which part of the table, if not all of it.
    """
    return table.replace_schema_metadata({**(table.schema.metadata or {}), f"{_ROWS}{part}": str(rows)})


def row_ids(table: pa.Table, part: str = "") -> int | None:
    """How many rows the file has whose row numbers are the ids of a table; None where the file has ids."""
    found = (table.schema.metadata or {}).get(f"{_ROWS}{part}".encode())
    return None if found is None else int(found)


def require_like_ids(first: int | None, second: int | None, names: tuple[str, str]) -> str:
    """Checks that the ids of two files of parallel prompts name the same prompts.

    Args:
        first: Of :func:`row_ids`.
        second: The same of the other file.
        names: What the files are called, for messages.

    Returns:
        What a person should know of how rows are paired; empty if ids pair them.

    Raises:
        UserError: One file alone has ids, or none has and they have unlike numbers of rows.
    """
    if first is None and second is None:
        return ""
    if first is not None and second is not None:
        bare = f"The {names[0]} and the {names[1]} have no ids"
        if first == second:
            return f"{bare}, so that rows with the same number are taken for one prompt."
        raise UserError(
            f"{bare}, and {first} and {second} rows, so that row numbers pair nothing: give the same prompts the same "
            "ids, in a column id of both."
        )
    there, lacking = names if first is None else names[::-1]
    raise UserError(
        f"The {there} have ids and the {lacking} have none, and row numbers would be taken for these: give the same "
        "prompts the same ids, in a column id of both."
    )
