"""How a command ends that was stopped: Ctrl-C raises KeyboardInterrupt by itself, SIGTERM the like of it here."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from mlc.stopping import Stopped

STOPPED = "Stopped; what is finished is kept, and the next run goes on from there."
ASKED = "Stopping: answers that are on their way are waited for; once more ends at once."
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


@contextmanager
def stop_softly(stopping: threading.Event, console: Console) -> Iterator[None]:
    """Lets Ctrl-C or SIGTERM set a flag, at which the block ends where it keeps what is done; the second one ends all.

    Args:
        stopping: What the block looks at.
        console: Where to say so.

    Raises:
        KeyboardInterrupt: The block stopped for Ctrl-C; :class:`Terminated` for SIGTERM.
    """
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        if asked:
            # Threads that wait for a server cannot be ended otherwise; every file is written whole or by lines.
            os._exit(128 + number)
        asked.append(number)
        stopping.set()
        console.print(ASKED, highlight=False)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        raise (Terminated() if asked == [signal.SIGTERM] else KeyboardInterrupt) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(*_: Any) -> None:
    raise Terminated
