"""Digests of files, folders and plain data."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal data: sorted keys, no spaces, no NaN.

    Raises:
        TypeError: ``value`` holds something that is not plain data.
        ValueError: ``value`` holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_data(value: Any) -> str:
    """SHA-256, as hexadecimal text, of plain data (dicts, lists, texts, numbers)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256, as hexadecimal text, of a file's bytes."""
    state = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_CHUNK):
            state.update(block)
    return state.hexdigest()


def digest_unchanged(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, computed once as long as its size and time of change are the same.

    Args:
        path: The file.
    """
    facts = path.stat()
    return _digest_stamped(str(path), facts.st_size, facts.st_mtime_ns)


@cache
def _digest_stamped(path: str, size: int, changed: int) -> str:
    return digest_file(Path(path))


def folder_files(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted by its path with forward slashes."""
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def digest_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of every file below ``folder``; times and owners do not count."""
    return digest_data({path.relative_to(folder).as_posix(): digest_file(path) for path in folder_files(folder)})


def fsync_path(path: Path) -> None:
    """Asks the system to put a file or a folder entry on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
