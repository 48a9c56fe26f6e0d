"""Prompt files: reading, checking, and setting bad rows aside with a reason."""

import errno
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlc.errors import UserError

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")
LABELS = ("harmful", "harmless")
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class PromptFile:
    """Rows of a prompt file, all values text or NULL."""

    rows: pa.Table
    """Columns ``id``, ``prompt``, and the others of the file; ids are unique, prompts not blank."""
    rejected: pa.Table
    """Columns ``row`` (1 for the first) and ``reason``, for rows that were set aside."""


def read_prompts(path: Path, *, required: tuple[str, ...] = ("prompt",)) -> PromptFile:
    """Reads prompts from JSON Lines, CSV, TSV or Parquet.

    A missing column ``id`` becomes the row number. Rows without text in a required column, with a repeated id, or
    with a ``label`` that is neither ``harmful`` nor ``harmless`` are set aside.

    Args:
        path: The file; its ending names the format.
        required: Columns that must be there.

    Raises:
        UserError: The file cannot be read, lacks a column, or holds no usable row.
    """
    table = _read(path)
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise UserError(
            f"The prompt file {str(path)!r} has no column {missing[0]!r} ({_columns_in_words(table.column_names)}): "
            f"it needs {', '.join(required)}."
        )
    repeated = sorted(name for name, count in Counter(table.column_names).items() if count > 1)
    if repeated:
        raise UserError(f"The prompt file {str(path)!r} repeats a column ({_columns_in_words(repeated)}): rename one.")
    if "id" not in table.column_names:
        table = table.add_column(0, "id", pa.array([str(row) for row in range(1, len(table) + 1)]))
    try:
        table = pa.table({name: _as_text(table[name]) for name in table.column_names})
    except pa.ArrowException:
        raise _not_valid(path) from None
    kept, rejected = _sift(table, required)
    if not kept:
        reasons = sorted({reason for _, reason in rejected})
        detail = f" (set aside: {', '.join(reasons)})" if reasons else ""
        raise UserError(
            f"The prompt file {str(path)!r} holds no usable prompt{detail}: give at least one row with text."
        )
    return PromptFile(
        table.take(kept),
        pa.table(
            {
                "row": pa.array([row for row, _ in rejected], pa.int64()),
                "reason": pa.array([reason for _, reason in rejected], pa.string()),
            }
        ),
    )


def _sift(table: pa.Table, required: tuple[str, ...]) -> tuple[list[int], list[tuple[int, str]]]:
    kept: list[int] = []
    rejected: list[tuple[int, str]] = []
    seen: set[str] = set()
    for index, row in enumerate(table.to_pylist()):
        blank = next((name for name in required if not (row[name] or "").strip()), None)
        if blank:
            rejected.append((index + 1, f"no text in {blank}"))
        elif not row["id"] or row["id"] in seen:
            rejected.append((index + 1, "repeated id" if row["id"] else "no id"))
        elif row.get("label") is not None and row["label"] not in LABELS:
            rejected.append((index + 1, "unknown label"))
        else:
            seen.add(row["id"])
            kept.append(index)
    return kept, rejected


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        return pa.chunked_array([pa.array([_plain(value) for value in column.to_pylist()], pa.string())])
    return column.cast(pa.string())


def _read(path: Path) -> pa.Table:
    if path.suffix not in FORMATS:
        raise UserError(f"The prompt file {str(path)!r} ends in {path.suffix!r}: use one of {', '.join(FORMATS)}.")
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix == ".jsonl":
            return _read_jsonl(path)
        delimiter = "\t" if path.suffix == ".tsv" else ","
        return _read_csv(path, pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True))
    except OSError as error:
        # pyarrow gives some of these without a number.
        code = errno.ENOENT if not path.exists() else errno.EISDIR if path.is_dir() else error.errno
        reason = os.strerror(code) if code else "it is not a readable file of its kind"
        raise UserError(f"The prompt file {str(path)!r} cannot be read ({reason}): check the path.") from None
    except (pa.ArrowException, UnicodeError):
        raise _not_valid(path) from None


def _not_valid(path: Path) -> UserError:
    # The exception's own text may quote prompts.
    return UserError(f"The prompt file {str(path)!r} is not valid {path.suffix[1:]}: check its content.")


def _columns_in_words(names: list[str]) -> str:
    # Without a header the first prompts stand where names should, and errors quote no prompts.
    shown = [name for name in names if _COLUMN_NAME.fullmatch(name)]
    others = len(names) - len(shown)
    strange = [f"{others} that do not look like names, so a header may be missing"] if others else []
    return f"it has {', '.join([*shown, *strange]) or 'none'}"


def _read_csv(path: Path, options: pa_csv.ParseOptions) -> pa.Table:
    # Types are not guessed: 007 stays 007, and NA is a text. Only an empty field is NULL.
    with pa_csv.open_csv(path, parse_options=options) as reader:
        names = reader.schema.names
    return pa_csv.read_csv(
        path,
        parse_options=options,
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )


def _read_jsonl(path: Path) -> pa.Table:
    rows = []
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise UserError(f"Line {number} of {str(path)!r} is not a JSON object: write one object a line.")
            rows.append(row)
    if not rows:
        return pa.table({"prompt": pa.array([], pa.string())})
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([_plain(row.get(name)) for row in rows], pa.string()) for name in names})


def _plain(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
