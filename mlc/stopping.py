"""Ending work early because somebody asked for it, at a place where what was done can be kept.

Long loops take a function ``should_stop`` and look at it after each step or batch.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShouldStop = Callable[[], bool]
"""Whether somebody has asked to stop; cheap, and asked from any thread."""
_WAKE_SECONDS = (0.05, 0.5, 2.0)
"""How long after a signal the main thread is woken; several times, because it may miss a waking as it missed that."""


class Stopped(Exception):
    """Work that was asked to stop has stopped."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def stop_if(should_stop: ShouldStop) -> None:
    """Ends the work if somebody has asked for it.

    Raises:
        Stopped: Somebody has.
    """
    if should_stop():
        raise Stopped


@contextmanager
def hearing_signals() -> Iterator[None]:
    """Lets the main thread hear a signal at once, in whatever wait it is; for a block in the main thread.

    Python runs handlers in the main thread between two of its instructions. A signal that comes in the moment in which
    that begins to wait for another thread, or that the system gives to another thread, ends no wait: it is heard when
    the wait ends by itself, such as hours later with a training. A thread that sees each signal arrive wakes the main
    one by another signal, whose handler does nothing.

    Nothing happens where another part of the program, such as an event loop, sees signals arrive already.
    """
    number = signal.SIGURG  # ignored by whoever has no handler for it, and nobody's here
    read, write = os.pipe()
    os.set_blocking(write, False)
    others = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if others != -1:
        signal.set_wakeup_fd(others, warn_on_full_buffer=False)
        os.close(read)
        os.close(write)
        yield
        return
    before = signal.signal(number, lambda *_: None)
    ended = threading.Event()
    waking = threading.Thread(target=_wake, args=(read, number, ended), name="mlc-signals", daemon=True)
    waking.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        ended.set()
        os.close(write)
        waking.join()
        os.close(read)
        signal.signal(number, before)


def _wake(read: int, number: int, ended: threading.Event) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while came := os.read(read, 64):
        for seconds in _WAKE_SECONDS if set(came) != {number} else ():
            if ended.wait(seconds):
                return
            signal.pthread_kill(main, number)
