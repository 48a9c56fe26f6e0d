"""How a command ends that was stopped: Ctrl-C raises KeyboardInterrupt by itself, SIGTERM the like of it here."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

STOPPED = "Stopped; what is finished is kept, and the next run goes on from there."
TERMINATED = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The command was asked to end from outside."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does, so that no half of a file is left; for the main thread."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def told_when_stopped(console: Console) -> Iterator[None]:
    """Lets SIGTERM end the block in order, and says what became of the work; for the main thread."""
    with ending_in_order():
        try:
            yield
        except (KeyboardInterrupt, Terminated):
            console.print(STOPPED, highlight=False)
            raise


def _terminate(*_: Any) -> None:
    raise Terminated
