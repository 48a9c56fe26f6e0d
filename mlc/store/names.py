"""Which names may become places on the disk: records, archives and storages come from outside and may name anything."""

import re
from pathlib import Path, PurePosixPath

KIND = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""Names of stages look so."""
KEY = re.compile(r"[0-9a-f]{64}")
_LONGEST_PART = 255
_LONGEST_NAME = 1024


def is_artifact(kind: object, key: object) -> bool:
    """Whether these two can name an artifact, and so a folder below ``artifacts`` and nothing else."""
    return (
        isinstance(kind, str)
        and isinstance(key, str)
        and KIND.fullmatch(kind) is not None
        and KEY.fullmatch(key) is not None
    )


def is_file_name(name: object) -> bool:
    """Whether a text can name a file inside a folder: relative, with forward slashes, without ``..`` and controls."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\\" in name or not name.isprintable():
        return False
    parts = name.split("/")
    return PurePosixPath(name).as_posix() == name and all(
        part not in ("", ".", "..") and len(part.encode()) <= _LONGEST_PART for part in parts
    )


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path lies inside a folder once every link on the way is followed."""
    return path.resolve().is_relative_to(folder.resolve())
