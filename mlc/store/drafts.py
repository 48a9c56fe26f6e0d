"""Files and folders that are there when they are complete, and not before.

A draft lies beside the place that it is for, so that it takes the name in one step. A process that is killed leaves
it there, as ``.NAME-….tmp``, and nobody reads it.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mlc.store.hashing import fsync_path

DRAFTS = ".*.tmp"
"""Pattern of the names of drafts."""


@contextmanager
def draft_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a path to write to; when the block ends without an error, the file takes its place, on the disk.

    Args:
        path: Where it is to be; what is there is replaced.
        durable: Whether it is to outlast a loss of power, which is waited for.
    """
    draft = draft_beside(path)
    try:
        yield draft
        if durable:
            fsync_path(draft)
        draft.replace(path)
        if durable:
            fsync_path(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Gives a new folder to write into; when the block ends without an error, it takes its place, on the disk.

    Args:
        folder: Where it is to be. An empty folder there is replaced; if another process put a full one there
            meanwhile, that one stays.
    """
    draft = draft_beside(folder)
    try:
        draft.mkdir(parents=True)
        yield draft
        place_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def place_folder(draft: Path, folder: Path, *, durable: bool = True) -> bool:
    """Gives a complete folder its name.

    Args:
        draft: On the same disk.
        folder: Where it is to be; what is there stays unless it is an empty folder.
        durable: As for :func:`draft_file`.

    Returns:
        Whether it is in its place; False if something else is.
    """
    if durable:
        for path in (*draft.rglob("*"), draft):
            fsync_path(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    if durable:
        fsync_path(folder.parent)
    return True


def link_file(file: Path, target: Path) -> None:
    """Gives a file that never changes a second name, or a copy where the file system has no such names.

    Args:
        file: The file.
        target: Its other name; the folder is made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def open_private(path: Path, mode: str = "w") -> IO[Any]:
    """Opens a file that only its owner may read from now on, also where it was there and others could.

    Args:
        path: The file.
        mode: As of :func:`open`, for writing; text is UTF-8.
    """
    encoding = None if "b" in mode else "utf-8"
    handle = open(path, mode, encoding=encoding, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    with suppress(OSError):  # a file of somebody else, or a disk that knows no permissions
        os.fchmod(handle.fileno(), 0o600)
    return handle


def draft_beside(path: Path) -> Path:
    """A name for a draft of a file or folder."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.tmp")
