"""What the tasks of one run share: the artifact store, the record of what ran, and the progress display."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts

State = Literal["ran", "cached", "run"]
"""``run`` is what a plan foresees."""


@dataclass(frozen=True)
class Outcome:
    """What became of one task."""

    stage: str
    language: str | None
    """NLLB code where the task belongs to a language."""
    subject: str | None
    """What else tells it from others of its stage: the model and its seed."""
    state: State
    seconds: float
    reason: str
    """Why it ran, or why it did not need to."""
    key: str
    rows_new: int | None = None
    """Rows that it has to work on: prompts with a sentence that was never translated, texts to judge; 0 where nothing
    is new, None where it has no rows."""
    seconds_estimated: float | None = None
    """What a plan expects by what such work has taken in this workspace; None where there is no experience."""
    seconds_saved: float = 0.0
    """What a cached artifact took when it was made."""


class Display(Protocol):
    """Where progress goes: a terminal, a log, or nowhere."""

    def started(self, label: str, reason: str) -> None:
        """A task starts its work."""

    def bar(self, label: str, total: int) -> Callable[[int], None]:
        """Opens a progress bar; the function moves it on by a number of steps."""

    def finished(self, label: str, outcome: Outcome) -> None:
        """A task is done or was cached."""

    def note(self, sentence: str) -> None:
        """Something that a person should know."""


class Silent:
    """Shows nothing."""

    def started(self, label: str, reason: str) -> None:
        """Ignores it."""

    def bar(self, label: str, total: int) -> Callable[[int], None]:
        """Ignores it."""
        return lambda steps: None

    def finished(self, label: str, outcome: Outcome) -> None:
        """Ignores it."""

    def note(self, sentence: str) -> None:
        """Ignores it."""


@dataclass
class Run:
    """One run of the pipeline in one workspace."""

    store: ArtifactStore
    display: Display = field(default_factory=Silent)
    planning: bool = False
    """Only look which artifacts are there; make nothing."""
    scratch: Path | None = None
    """Where a plan may make what costs nothing, so that it sees further."""
    outcomes: list[Outcome] = field(default_factory=list)
    parts: dict[str, KeyParts] = field(default_factory=dict)
    """Of every task that a plan has foreseen, by key."""
    journal: Callable[[Outcome], None] = lambda outcome: None
    """Writes down what became of a task at once, so that a run that is killed has its record."""
    failure: Exception | None = None
    """The first failure of a task: Prefect tells only of those that wait for it that they never started."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def workspace(self) -> Path:
        """Folder of the workspace."""
        return self.store.workspace

    def fail(self, error: Exception) -> None:
        """Notes a failure, from any thread; the first one counts."""
        with self._lock:
            self.failure = self.failure or error

    def record(self, label: str, outcome: Outcome) -> None:
        """Notes what became of a task, from any thread."""
        with self._lock:
            self.outcomes.append(outcome)
            self.journal(outcome)
        self.display.finished(label, outcome)


_current: ContextVar[Run | None] = ContextVar("mlc_run", default=None)
_display: ContextVar[Display] = ContextVar("mlc_display", default=Silent())  # noqa: B039
_wait: ContextVar[float] = ContextVar("mlc_wait", default=0.0)


@contextmanager
def shown_on(display: Display, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Sets the display, and the patience with a busy workspace, of the runs that start inside the block."""
    tokens = _display.set(display), _wait.set(wait_seconds)
    try:
        yield
    finally:
        _display.reset(tokens[0])
        _wait.reset(tokens[1])


def using_display() -> Display:
    """The display that a new run uses."""
    return _display.get()


def wait_for_workspace() -> float:
    """Seconds that a new run waits for a workspace that housekeeping holds."""
    return _wait.get()


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Makes ``run`` the one that tasks find, in this context and the threads that Prefect starts from it."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def current_run() -> Run:
    """The run that the calling task belongs to.

    Raises:
        UserError: There is none.
    """
    run = _current.get()
    if run is None:
        raise UserError("A stage was called outside a run: call the flow `align`, or wrap the call in `running(…)`.")
    return run


_waited = threading.local()


def working_time() -> float:
    """Seconds of this thread, without those that it waited for the device."""
    return time.perf_counter() - _seconds_waited()


def add_waiting(seconds: float) -> None:
    """Notes that this thread has waited for the device."""
    _waited.seconds = _seconds_waited() + seconds


def _seconds_waited() -> float:
    return float(getattr(_waited, "seconds", 0.0))
