"""Who makes which artifact, among machines that share a storage and no disk.

A claim is an object in the storage that its holder renews. Whoever waits looks whether it still changes, by its own
clock: a holder that was killed changes nothing. A claim saves work and decides nothing: where two hold one after all,
both make the artifact, and the first one to be put into the storage counts.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from mlc.errors import UserError
from mlc.stopping import ShouldStop, stop_if

LEASE_SECONDS = 45.0
"""How long a claim may stay as it is until its holder counts as dead."""
RENEW_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""How often who waits looks."""


class Claims(Protocol):
    """Where claims lie, see :class:`mlc.store.remote.RemoteArtifacts`."""

    def claim(self, kind: str, key: str, content: bytes) -> bytes | None:
        """Puts a claim there if there is none; what the other one says if there is one."""

    def renew_claim(self, kind: str, key: str, content: bytes) -> None:
        """Puts a claim there, over whatever there is."""

    def release_claim(self, kind: str, key: str) -> None:
        """Takes a claim away."""


@contextmanager
def claimed(
    claims: Claims,
    kind: str,
    key: str,
    *,
    holder: str,
    made: Callable[[], bool],
    on_wait: Callable[[], None] = lambda: None,
    should_stop: ShouldStop | None = None,
) -> Iterator[None]:
    """Holds the claim on an artifact during a block; waits for its turn, or until the artifact is there.

    Args:
        claims: The storage.
        kind: Name of the stage.
        key: Key of the artifact.
        holder: Names the workspace and its machine. Whoever comes has the workspace's own lock, so that a claim of the
            same holder is one of a process that was killed.
        made: Whether the artifact is in the storage.
        on_wait: Called once if another machine is making it.
        should_stop: Looked at while waiting.

    Raises:
        Stopped: It was asked to stop before its turn came.
        UserError: The storage cannot be reached.
    """
    own = f"{holder}\n{uuid.uuid4().hex}\n"
    if not _obtained(claims, kind, key, own, holder, made, on_wait, should_stop):
        yield
        return
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(RENEW_SECONDS):
            count += 1
            with suppress(UserError):  # it is only there to save work
                claims.renew_claim(kind, key, f"{own}{count}".encode())

    renewer = threading.Thread(target=renew, name="mlc-claim", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        ended.set()
        renewer.join()
        with suppress(UserError):
            claims.release_claim(kind, key)


def _obtained(
    claims: Claims,
    kind: str,
    key: str,
    own: str,
    holder: str,
    made: Callable[[], bool],
    on_wait: Callable[[], None],
    should_stop: ShouldStop | None,
) -> bool:
    """Waits for a claim; False if the artifact is there before."""
    last, since, told = None, time.monotonic(), False
    while True:
        other = claims.claim(kind, key, own.encode())
        if other is None:
            return True
        if other != last:
            last, since = other, time.monotonic()
        if other.startswith(f"{holder}\n".encode()) or time.monotonic() - since > LEASE_SECONDS:
            claims.renew_claim(kind, key, own.encode())
            return True
        if made():
            return False
        if not told:
            on_wait()
            told = True
        if should_stop is not None:
            stop_if(should_stop)
        time.sleep(LOOK_SECONDS)
