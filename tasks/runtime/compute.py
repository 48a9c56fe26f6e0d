"""The device: held by one stage at a time, and the one place where models are loaded; the last one stays."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mlc.devices import pick_device
from mlc.stopping import stop_if
from mlc.store.locks import LOOK_SECONDS, file_lock
from tasks.runtime.run import Run, waiting

# Tasks fan out, but they share one device: two models at once would only take twice the memory.
_lock = threading.RLock()
_held: set[str] = set()
_loaded: dict[str, Any] = {}

WAITED_FOR = "the device"
"""What people are told a task waits for."""

Loaded = TypeVar("Loaded")


@contextmanager
def computing(run: Run, device: str) -> Iterator[None]:
    """Holds the device while the block computes, against all threads and processes of this machine and workspace.

    What loads parts of libraries that are loaded late, see :mod:`tasks.runtime.libraries`, belongs into such a block
    too.

    Args:
        run: The run.
        device: As :func:`mlc.devices.pick_device` takes it.

    Raises:
        Stopped: The run was asked to stop before its turn came.
    """
    with waiting(_thread_turn(run)):
        name = name_on_machine(pick_device(device))
        if name in _held:
            run.waits("")
            yield
            return
        # Machines may share a workspace, but no device.
        lock = run.store.root / ".locks" / f"device-{socket.gethostname()}-{name}.lock"
        turn = file_lock(lock, on_wait=lambda: run.waits(WAITED_FOR), should_stop=run.should_stop)
        with waiting(turn):
            _held.add(name)
            run.waits("")
            try:
                yield
            finally:
                _held.remove(name)
                if not run.here:
                    # The next one to hold the device may be another process, which needs the memory.
                    release()


def name_on_machine(device: str) -> str:
    """Name of a device for all processes of a machine, each of which may see some of its GPUs alone."""
    kind, _, number = device.partition(":")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if kind == "cuda" else []
    index = int(number or 0)
    place = seen[index].strip() if index < len(seen) and seen[index] else str(index)
    return kind if place == "0" else f"{kind}-{place}"


@contextmanager
def _thread_turn(run: Run) -> Iterator[None]:
    while not _lock.acquire(timeout=LOOK_SECONDS):
        run.waits(WAITED_FOR)
        stop_if(run.should_stop)
    try:
        yield
    finally:
        _lock.release()


@contextmanager
def loaded(run: Run, identity: str, device: str, load: Callable[[], Loaded]) -> Iterator[Loaded]:
    """Gives a model, loading it only if it is not the one that was used last, and holds the device meanwhile.

    Args:
        run: The run.
        identity: Tells it from all others.
        device: Where it computes.
        load: Loads it.
    """
    with computing(run, device):
        if identity not in _loaded:
            _loaded.clear()
            _loaded[identity] = load()
        yield _loaded[identity]


def release() -> None:
    """Forgets the model that is kept in memory."""
    with _lock:
        _loaded.clear()
