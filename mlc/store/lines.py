"""Records with a line of JSON an entry, added one at a time; a kill or a failing disk may cut off the last one."""

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry; it is in the hands of the system when this returns. A line that was cut off costs no other.

    Several processes may add to one file: the system takes each entry whole.
    """
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(descriptor, line)
    finally:
        os.close(descriptor)
    if written < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries, oldest first, without those that were cut off or are none; none if there is no such file."""
    return read_lines_with_damage(path)[0]


def read_lines_with_damage(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries as :func:`read_lines` gives them, and the number of lines that are none.

    A last line without an end is being written, or was cut off by a kill, and does not count.
    """
    if not path.is_file():
        return [], 0
    content = path.read_bytes()
    entries = _entries(content)
    whole, _, last = content.rpartition(b"\n")
    lines = sum(1 for line in whole.split(b"\n") if line) + len(_entries(last))
    return entries, lines - len(entries)


def read_lines_from(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """The entries that were added since a file was last read, for who follows it.

    Args:
        path: The file.
        position: Bytes that are known already.

    Returns:
        The entries, and the bytes that are known now: up to the end of the last whole line.
    """
    with path.open("rb") as handle:
        handle.seek(position)
        whole = handle.read().rpartition(b"\n")[0]
    return _entries(whole), position + len(whole) + bool(whole)


def _entries(content: bytes) -> list[dict[str, Any]]:
    found = []
    # Other line ends of Unicode may stand inside an entry.
    for line in content.split(b"\n"):
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found
