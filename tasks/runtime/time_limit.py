"""The time limit of a run: it stops in order, keeps what it did, and counts as failed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from mlc.errors import UserError
from mlc.stopping import Stopped
from tasks.runtime.run import Run, harmless
from tasks.runtime.stopping import leave

LAST_STEP_SECONDS = 300.0
"""How long stages get to end at their next step, before the process ends whatever they do."""


@contextmanager
def limited(run: Run, hours: float | None) -> Iterator[None]:
    """Stops the run when the block takes longer than a number of hours.

    Args:
        run: The run.
        hours: The limit; None for none.

    Raises:
        UserError: The limit is not above 0, or was reached.
    """
    if hours is None:
        yield
        return
    if not hours > 0:
        raise UserError(f"The time limit is {hours:g} hours: give a number above 0, or none.")
    told = (
        f"The run reached its time limit of {hours:g} hours: what is finished is kept, and the next run goes on from "
        "there; give it more hours if it needs them."
    )
    reached, over = threading.Event(), threading.Event()

    def watch() -> None:
        if over.wait(hours * 3600):
            return
        reached.set()
        run.display.note(told)
        harmless(lambda: get_run_logger().error(told))()
        run.stop()
        if not over.wait(LAST_STEP_SECONDS):
            leave([run], 1)

    watching = threading.Thread(target=watch, name="mlc-time-limit", daemon=True)
    watching.start()
    try:
        yield
    except Stopped:
        if reached.is_set():
            raise UserError(told) from None
        raise
    finally:
        over.set()
