"""A clock that stands still while a task waits for the device that another task holds."""

import threading
import time

_waited = threading.local()


def working_time() -> float:
    """Seconds of this thread, without those that it waited for the device."""
    return time.perf_counter() - _seconds_waited()


def add_waiting(seconds: float) -> None:
    """Notes that this thread has waited for the device."""
    _waited.seconds = _seconds_waited() + seconds


def _seconds_waited() -> float:
    return float(getattr(_waited, "seconds", 0.0))
