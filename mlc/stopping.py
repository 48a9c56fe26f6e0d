"""Ending work early because somebody asked for it, at a place where what was done can be kept.

Long loops take a function ``should_stop`` and look at it after each step or batch.
"""

from collections.abc import Callable

ShouldStop = Callable[[], bool]
"""Whether somebody has asked to stop; cheap, and asked from any thread."""


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
