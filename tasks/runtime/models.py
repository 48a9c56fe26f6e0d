"""The one place where models are loaded: one at a time, the last one stays."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tasks.runtime.run import add_waiting

# Tasks fan out in threads, but they share one device: two models at once would only take twice the memory.
_lock = threading.RLock()
_loaded: dict[str, Any] = {}

Model = TypeVar("Model")


@contextmanager
def computing() -> Iterator[None]:
    """Holds the device while the block computes."""
    started = time.perf_counter()
    with _lock:
        add_waiting(time.perf_counter() - started)
        yield


@contextmanager
def loaded(identity: str, load: Callable[[], Model]) -> Iterator[Model]:
    """Gives a model, loading it only if it is not the one that was used last, and holds the device meanwhile."""
    with computing():
        if identity not in _loaded:
            _loaded.clear()
            _loaded[identity] = load()
        yield _loaded[identity]


def release() -> None:
    """Forgets the model that is kept in memory."""
    with _lock:
        _loaded.clear()
