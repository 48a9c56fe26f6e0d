"""Stopping a run: the first signal ends every stage at its next step, the second one ends the process."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from types import FrameType
from typing import NoReturn
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.exceptions import TerminationSignal

from mlc.stopping import hearing_signals
from tasks.runtime.run import Run, harmless

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOGETHER_SECONDS = 1.0
"""Signals so close to the first one count as one: supervisors pass on what the whole group gets anyway."""
WATCHING_SECONDS = 2.0
"""How often a run looks whether it was cancelled in Prefect."""
STOPPING = "Stopping: what works ends at its next step or batch, and what it did is kept. Once more stops at once."
_stopped_by: signal.Signals | None = None
_UNDER_A_WORKER = "PREFECT__FLOW_RUN_ID"
"""Variable that names the flow run in a process that a Prefect worker started."""


@contextmanager
def stopping(run: Run) -> Iterator[None]:
    """Lets the first signal ask the run to stop; for the body of a flow, inside the block that waits for its stages.

    Python raises the signal in the main thread, by Prefect's handler or its own, and it is passed on when the stages
    have ended. A run that a worker started is cancelled by such a signal; any other one looks by itself.
    """
    global _stopped_by
    _stopped_by = None
    with _first_signal_only(run):
        try:
            with _watching(run):
                yield
        except (KeyboardInterrupt, TerminationSignal) as error:
            _stopped_by = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.Signals(error.signal)
            run.stop()
            _tell(run)
            raise


@contextmanager
def _first_signal_only(run: Run) -> Iterator[None]:
    """Lets one signal through to the handlers that were there, and the next one end the process at once.

    The first signal itself closes the way for others: one close behind it must not raise into what it began. That stays
    so when the block ends by it, because what follows may not stop either.
    """
    if threading.current_thread() is not threading.main_thread():
        # No other thread may have handlers, and Python raises no signal in one.
        yield
        return
    began: list[float] = []
    # One that is ignored stays so, as in a shell's background, and one that is not Python's cannot be put back.
    before = {
        number: former for number in SIGNALS if (former := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }

    def handle(number: int, frame: FrameType | None) -> None:
        if began:
            if time.monotonic() - began[0] >= TOGETHER_SECONDS:
                leave([run], 128 + number)
            return
        began.append(time.monotonic())
        former = before[signal.Signals(number)]
        if callable(former):
            former(number, frame)
        raise TerminationSignal(signal=number)

    for number in before:
        signal.signal(number, handle)
    try:
        with hearing_signals():
            yield
    finally:
        if not began:
            for number, former in before.items():
                signal.signal(number, former)


def under_a_worker() -> bool:
    """Whether a Prefect worker started this process for a flow run, so that nobody waits for it in a terminal."""
    return _UNDER_A_WORKER in os.environ


def stopped_by() -> signal.Signals | None:
    """The signal that asked the last run in this process to stop; None if none did."""
    return _stopped_by


def leave(runs: Sequence[Run], code: int, end: str = "interrupted") -> NoReturn:
    """Ends this process at once, whatever its threads do; what they were making is made again by the next run.

    Args:
        runs: The runs in it, whose records are closed.
        code: Exit code.
        end: What the records say.
    """
    try:
        for run in runs:
            run.display.close()
            if run.journal:
                run.journal.end(end)
    finally:
        os._exit(code)


def _tell(run: Run) -> None:
    run.display.note(STOPPING)
    harmless(lambda: get_run_logger().warning(STOPPING))()


@contextmanager
def _watching(run: Run) -> Iterator[None]:
    """Asks the run to stop when it is cancelled in Prefect, where no worker does that."""
    if under_a_worker():
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        with get_client(sync_client=True) as client:
            while not ended.wait(WATCHING_SECONDS):
                state = client.read_flow_run(UUID(run.id)).state
                if state and (state.is_cancelling() or state.is_cancelled()):
                    run.stop()
                    _tell(run)
                    return

    # A server that is gone ends the watch, and the run learns of it by itself.
    thread = threading.Thread(target=copy_context().run, args=(harmless(watch),), name="mlc-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
