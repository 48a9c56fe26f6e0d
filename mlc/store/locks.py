"""Who may do what at the same time: runs share a workspace, one of them makes an artifact, housekeeping is alone.

The system frees every lock here when the process that holds it ends, however it ends; so a dead holder's lock is free.
"""

import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlc.errors import UserError
from mlc.stopping import ShouldStop, stop_if

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock-holder.json"
_START_LOCK = ".lock-start"
_PAUSE_SECONDS = 0.05
LOOK_SECONDS = 0.2
"""How often who waits looks whether to go on waiting."""


@contextmanager
def workspace_lock(workspace: Path, *, shared: bool = False, wait_seconds: float = 0) -> Iterator[None]:
    """Holds a workspace.

    Args:
        workspace: Folder of the workspace.
        shared: Whether others that share it may hold it as well. Runs do; what takes artifacts away does not.
        wait_seconds: How long to wait for those that stand in the way; 0 refuses at once.

    Raises:
        UserError: Somebody else holds it.
    """
    with _opened(workspace / LOCK_FILE) as descriptor:
        if not _taken(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait_seconds):
            raise UserError(
                f"Another run{_holder(workspace)} is using the workspace {str(workspace)!r}: wait for it to end, or "
                "name another folder.",
                about="busy workspace",
            )
        # Of several that share it, the last one to come is named.
        (workspace / HOLDER_FILE).write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        try:
            yield
        finally:
            if _holder_pid(workspace) == os.getpid():
                (workspace / HOLDER_FILE).unlink(missing_ok=True)


@contextmanager
def sharing(workspace: Path, *, tidy: Callable[[], None], wait_seconds: float = 0) -> Iterator[None]:
    """Holds a workspace together with others that share it.

    Args:
        workspace: Folder of the workspace.
        tidy: Called first if nobody holds the workspace; others that come meanwhile wait until it is done.
        wait_seconds: As for :func:`workspace_lock`.

    Raises:
        UserError: Somebody holds it alone.
    """
    deadline = time.monotonic() + wait_seconds
    with ExitStack() as held:
        while not _shared(workspace, held, tidy, last=time.monotonic() >= deadline):
            time.sleep(_PAUSE_SECONDS)
        yield


def _shared(workspace: Path, held: ExitStack, tidy: Callable[[], None], *, last: bool) -> bool:
    with file_lock(workspace / _START_LOCK):
        with lock_if_free(workspace / LOCK_FILE) as alone:
            if alone:
                tidy()
        try:
            held.enter_context(workspace_lock(workspace, shared=True))
        except UserError:
            if last:
                raise
            return False
    return True


@contextmanager
def file_lock(
    path: Path, *, on_wait: Callable[[], None] = lambda: None, should_stop: ShouldStop | None = None
) -> Iterator[None]:
    """Holds a file that stands for something only one thread of one process may do at a time; waits for it.

    Args:
        path: The file; made if it is not there, and left there.
        on_wait: Called once if somebody else holds it.
        should_stop: Looked at while waiting, where it may be a long time.

    Raises:
        Stopped: It was asked to stop before its turn came.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as descriptor:
        if not _taken(descriptor, fcntl.LOCK_EX):
            on_wait()
            if should_stop is None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            else:
                while not _taken(descriptor, fcntl.LOCK_EX, LOOK_SECONDS):
                    stop_if(should_stop)
        yield


@contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Holds a file as :func:`file_lock` does, if nobody else holds it; gives whether it does.

    Args:
        path: The file, in a folder that is there.
    """
    with _opened(path) as descriptor:
        yield _taken(descriptor, fcntl.LOCK_EX)


@contextmanager
def free_slot(folder: Path, name: str) -> Iterator[Path]:
    """Holds the first of the folders ``name``, ``name-2``, ``name-3`` … that no other process holds.

    Args:
        folder: Where they lie.
        name: Name of the first one.
    """
    for number in itertools.count(1):
        slot = folder / (name if number == 1 else f"{name}-{number}")
        slot.mkdir(parents=True, exist_ok=True)
        with lock_if_free(slot / LOCK_FILE) as taken:
            if taken:
                yield slot
                return


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor to lock; closing it frees the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int, mode: int, wait_seconds: float = 0) -> bool:
    """Tries to take a lock for a while."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_SECONDS)


def _holder(workspace: Path) -> str:
    pid = _holder_pid(workspace)
    return "" if pid is None else f" (process {pid})"


def _holder_pid(workspace: Path) -> int | None:
    try:
        return int(json.loads((workspace / HOLDER_FILE).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
