"""Records with a line of JSON an entry, added one at a time; a kill or a failing disk may cut off the last one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds an entry; it is in the hands of the system when this returns. A line that was cut off costs no other."""
    with path.open("a+b") as handle:
        start = b""
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            start = b"" if handle.read() == b"\n" else b"\n"
        handle.write(start + json.dumps(entry, ensure_ascii=False).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries, oldest first, without those that were cut off; none if there is no such file."""
    if not path.is_file():
        return []
    found = []
    # Other line ends of Unicode may stand inside an entry.
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
