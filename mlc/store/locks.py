"""One run at a time in a workspace."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlc.errors import UserError

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock-holder.json"


@contextmanager
def workspace_lock(workspace: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Holds a workspace; the system frees it when the process ends, however it ends.

    Args:
        workspace: Folder of the workspace.
        wait_seconds: How long to wait for another run; 0 refuses at once.

    Raises:
        UserError: Another run holds it.
    """
    lock = FileLock(workspace / LOCK_FILE)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise UserError(
            f"Another run{_holder(workspace)} is using the workspace {str(workspace)!r}: wait for it to end "
            "(--wait SECONDS does so), or name another folder with --workspace."
        ) from None
    try:
        (workspace / HOLDER_FILE).write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        (workspace / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _holder(workspace: Path) -> str:
    try:
        return f" (process {json.loads((workspace / HOLDER_FILE).read_text(encoding='utf-8'))['pid']})"
    except (OSError, ValueError, KeyError):
        return ""
