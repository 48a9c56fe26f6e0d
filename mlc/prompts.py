"""Prompt files: reading, checking, and setting bad rows aside with a reason."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlc.errors import UserError
from mlc.tables import TABLE_ENDINGS, Row, TableFile, plain_text, text_of

LABELS = ("harmful", "harmless")


@dataclass(frozen=True)
class PromptFile:
    """Rows of a prompt file, all values text or NULL."""

    rows: pa.Table
    """Columns ``id``, ``prompt``, and the others of the file; ids are unique, prompts not blank."""
    rejected: pa.Table
    """Columns ``row`` (1 for the first) and ``reason``, for rows that were set aside."""


def read_prompts(path: Path, *, required: tuple[str, ...] = ("prompt",)) -> PromptFile:
    """Reads prompts from JSON Lines, CSV, TSV or Parquet.

    A missing column ``id`` becomes the row number. Rows that cannot be read, rows without usable text in a required
    column, with a repeated id, or with a ``label`` that is neither ``harmful`` nor ``harmless`` are set aside.

    Args:
        path: The file; its ending names the format.
        required: Columns that must be there.

    Raises:
        UserError: The file cannot be read, lacks a column, or holds no usable row.
    """
    file = TableFile(path, formats=TABLE_ENDINGS, what="prompt file")
    # Without a row there is no column either, and that it is empty says more.
    if file.columns:
        file.require(required)
    columns = file.columns if "id" in file.columns else ("id", *file.columns)
    kept: list[dict[str, str | None]] = []
    rejected: list[tuple[int, str]] = []
    seen: set[str] = set()
    for row in file:
        values = {name: plain_text(row.values.get(name)) for name in columns}
        if "id" not in file.columns:
            values["id"] = str(row.number)
        problem = _problem(row, values, required, seen)
        if problem:
            rejected.append((row.number, problem))
        else:
            seen.add(str(values["id"]))
            kept.append(values)
    if not kept:
        reasons = sorted({reason for _, reason in rejected})
        detail = f" (set aside: {', '.join(reasons)})" if reasons else ""
        raise UserError(
            f"The prompt file {str(path)!r} holds no usable prompt{detail}: give at least one row with text."
        )
    return PromptFile(
        pa.table({name: pa.array([values[name] for values in kept], pa.string()) for name in columns}),
        pa.table(
            {
                "row": pa.array([row for row, _ in rejected], pa.int64()),
                "reason": pa.array([reason for _, reason in rejected], pa.string()),
            }
        ),
    )


def _problem(row: Row, values: dict[str, str | None], required: tuple[str, ...], seen: set[str]) -> str | None:
    """Why a row is set aside; None if it is not."""
    if row.problem:
        return row.problem
    for name in required:
        if reason := text_of(row.values.get(name) if name != "id" else values["id"])[1]:
            return f"{reason} in {name}"
    if not values["id"] or values["id"] in seen:
        return "repeated id" if values["id"] else "no id"
    label = values.get("label")
    return "unknown label" if label is not None and label not in LABELS else None
