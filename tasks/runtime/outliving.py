"""A run outlives the worker that started it, although that read what the run says."""

import os
import select
import threading

from tasks.runtime.stopping import under_a_worker

STREAMS = (1, 2)
"""Standard output and standard error."""


def outlive_the_worker() -> None:
    """Lets this process go on when the worker that reads its output is killed; nothing where no worker does.

    Whoever writes into a pipe that nobody reads any more gets an error. Prefect's log gets over that; a bar or a
    warning of a library would end the run.
    """
    if under_a_worker():
        for stream in STREAMS:
            threading.Thread(target=_without_reader, args=(stream,), name=f"mlc-stream-{stream}", daemon=True).start()


def _without_reader(stream: int) -> None:
    """Waits until nobody reads a stream, and then leads it to nowhere."""
    waiting = select.poll()
    # Of no event but those that are always told: an error, or the other end gone.
    waiting.register(stream, 0)
    waiting.poll()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
