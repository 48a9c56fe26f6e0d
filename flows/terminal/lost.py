"""A run whose Prefect server has died: it ends, instead of asking it in vain for minutes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flows.terminal.output import USER_MISTAKE, print_error, terminal
from flows.terminal.server import Server, answers
from flows.terminal.stopped import STOPPED
from tasks.runtime.run import live_runs

LOOKING_SECONDS = 0.5
LAST_STEP_SECONDS = 8.0
"""How long stages get to end at their next step, and to write what they did."""


def no_answer(server: Server) -> str:
    """The sentence for it."""
    return (
        f"The Prefect server at {server.url} stopped answering in the midst of the run: start the run again; what is "
        "finished is kept."
    )


@contextmanager
def ending_with(server: Server) -> Iterator[None]:
    """Ends this process, in order, soon after its server has died during the block.

    One that was started here does not come back. Another one may, and is waited for as long as nobody asks the run to
    stop: supervisors stop a server and its runs together.
    """
    ended = threading.Event()

    def look() -> None:
        from tasks.runtime.stopping import stopped_by

        while not ended.wait(LOOKING_SECONDS):
            if server.gone or (server.process is None and stopped_by() and not answers(server.api)):
                _end(server)

    looking = threading.Thread(target=look, name="mlc-server", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _end(server: Server) -> None:
    from tasks.runtime.stopping import leave, stopped_by

    runs = live_runs()
    for run in runs:
        run.stop()
    deadline = time.monotonic() + LAST_STEP_SECONDS
    while time.monotonic() < deadline and not all(f.wrapped_future.done() for run in runs for f in run.futures):
        time.sleep(0.1)
    for run in runs:
        run.display.close()
    if asked := stopped_by():
        terminal.print(STOPPED, highlight=False)
        leave(runs, 128 + asked)
    print_error(no_answer(server))
    leave(runs, USER_MISTAKE, "failed")
