"""Formats of tables, and the endings of files that name them."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

from mlc.choices import Format
from mlc.errors import UserError

ReadFormat = Literal[Format, "arrow", "parallel"]
"""Formats of tables that are read: two that nobody names and nothing is written in come to the others."""
FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "lines",
}
"""The format that the ending of a file names, for files that are written."""
TABLE_ENDINGS = tuple(ending for ending, name in FORMATS.items() if name != "lines")
"""Endings of files with columns."""
LINE_COLUMN = "text"
"""The one column of a file of plain lines."""

_ALSO_READ: dict[str, ReadFormat] = {
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "jsonl",
    ".tab": "tsv",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
"""Endings that may stand behind that of the format."""


def ending_of(name: str) -> str:
    """The ending that names the format, in lower case, without that of a compression."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_ENDINGS else path.suffix


def read_format(name: str) -> ReadFormat | None:
    """The format that the ending of a file to read names; None if it names none."""
    ending = ending_of(name)
    return FORMATS.get(ending) or _ALSO_READ.get(ending)


def written_as(format: ReadFormat) -> Format:
    """The format for what is made of a file of ``format`` when nobody names one."""
    return "jsonl" if format == "arrow" or format == "parallel" else format


def format_of(path: PurePath, *, formats: Sequence[str] = tuple(FORMATS), what: str = "file") -> Format:
    """The format that the ending of a file to write names.

    Raises:
        UserError: It names none of those that are allowed.
    """
    ending = path.suffix.lower()
    if ending not in formats:
        raise unknown_ending(str(path), path.suffix, formats, what)
    return FORMATS[ending]


def unknown_ending(name: str, ending: str, formats: Sequence[str], what: str) -> UserError:
    """The error for a file whose ending names none of the formats that are allowed."""
    return UserError(f"The {what} {name!r} ends in {ending!r}: use one of {', '.join(formats)}.")
