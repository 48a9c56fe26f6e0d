"""The run that stages belong to: a reference that travels, and what it is opened to where a stage works."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.remote import RemoteArtifacts
from mlc.store.runs import STOP, WORDS_SECONDS, DistantJournal, Journal, is_open, read_record

P = ParamSpec("P")
T = TypeVar("T")
State = Literal["ran", "cached", "run"]
"""``run`` is what a plan foresees."""
INPUT_IS_NEW = "its input is new"
"""Reason of a task in a plan whose input is made anew."""
WORKSPACE_VARIABLE = "MLC_WORKER_WORKSPACE"
"""Environment variable of a machine that does not see the workspace of a flow: the folder that it has in its place."""
PASSING_SERVER = "MLC_PASSING_SERVER"
"""Environment variable of a run whose Prefect server ends with it, so that no link to its pages would hold."""
FOLLOWING_SECONDS = 0.2
"""How often a run looks for what other processes have told."""

logger = logging.getLogger(__name__)


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

    @property
    def label(self) -> str:
        """Name of the task for people."""
        return label_of(self.stage, self.subject, self.language)


def label_of(stage: str, subject: str | None, language: str | None) -> str:
    """Name of a task for people, such as ``generate · consistency · seed 0 · swh_Latn``."""
    return " · ".join(text for text in (stage, subject, language) if text)


class Display(Protocol):
    """Where progress goes: a terminal, a log, or nowhere."""

    def started(self, label: str, reason: str) -> None:
        """A task starts its work."""

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Opens a progress bar; the function moves it on by a number of steps.

        It is told, too, how many tokens these steps were about, and in a training the loss, as ``tokens`` and ``loss``.
        """

    def waits(self, label: str, what: str) -> None:
        """A task waits for something, such as the device; with an empty text it goes on."""

    def finished(self, label: str, outcome: Outcome) -> None:
        """A task is done or was cached."""

    def failed(self, label: str) -> None:
        """A task that had started ends without its artifact."""

    def note(self, sentence: str) -> None:
        """Something that a person should know."""

    def close(self) -> None:
        """Nothing follows."""


class Silent:
    """Shows nothing."""

    def started(self, label: str, reason: str) -> None:
        """Ignores it."""

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Ignores it."""
        return lambda steps, tokens=0, loss=None: None

    def waits(self, label: str, what: str) -> None:
        """Ignores it."""

    def finished(self, label: str, outcome: Outcome) -> None:
        """Ignores it."""

    def failed(self, label: str) -> None:
        """Ignores it."""

    def note(self, sentence: str) -> None:
        """Ignores it."""

    def close(self) -> None:
        """Ignores it."""


class Notes(Silent):
    """Keeps what a person should know."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def note(self, sentence: str) -> None:
        """Keeps it."""
        self.sentences.append(sentence)


class Shielded:
    """A display whose errors harm nobody: what only shows must not fail a run. They are logged for who looks for them.

    Args:
        display: What shows.
    """

    def __init__(self, display: Display) -> None:
        self._display = display

    def started(self, label: str, reason: str) -> None:
        """Passes it on."""
        harmless(self._display.started)(label, reason)

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Passes it on."""
        moved = harmless(self._display.bar)(label, total)
        return harmless(moved) if moved else lambda steps, tokens=0, loss=None: None

    def waits(self, label: str, what: str) -> None:
        """Passes it on."""
        harmless(self._display.waits)(label, what)

    def finished(self, label: str, outcome: Outcome) -> None:
        """Passes it on."""
        harmless(self._display.finished)(label, outcome)

    def failed(self, label: str) -> None:
        """Passes it on."""
        harmless(self._display.failed)(label)

    def note(self, sentence: str) -> None:
        """Passes it on."""
        harmless(self._display.note)(sentence)

    def close(self) -> None:
        """Passes it on."""
        harmless(self._display.close)()


_TASK = "mlc_task"
"""Attribute of an error that names the task which it ended; it travels with the error between processes."""


@contextmanager
def failing_in(task: str) -> Iterator[None]:
    """Notes on an error that leaves the block which task it ended, unless a block inside has."""
    try:
        yield
    except Exception as error:
        vars(error).setdefault(_TASK, task)
        raise


def _which(error: Exception) -> tuple[str, str, str]:
    """What tells a failure from others; another process gives an error that is equal, and not the same."""
    return type(error).__qualname__, str(error), getattr(error, _TASK, "")


def harmless(shows: Callable[P, T]) -> Callable[P, T | None]:
    """A function that only shows something, without its errors; it gives None in place of one."""

    def shielded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return shows(*args, **kwargs)
        except Exception:
            logger.debug("What happens could not be shown.", exc_info=True)
            return None

    return shielded


class Reporting(Silent):
    """Writes down what a stage tells away from the process of its flow, which reads it and shows it.

    Args:
        journal: Of the run. Outcomes are written there by the run itself.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def started(self, label: str, reason: str) -> None:
        """Writes it down."""
        self._journal.write({"starting": {"label": label, "reason": reason}})

    def failed(self, label: str) -> None:
        """Writes it down."""
        self._journal.write({"ended": label})

    def note(self, sentence: str) -> None:
        """Writes it down."""
        self._journal.write({"note": sentence})


@dataclass(frozen=True)
class RunReference:
    """All that a stage is told of its run: plain data, so that any process can open it.

    What a stage computes with, its settings and inputs, it is given by itself.
    """

    id: str
    workspace: str
    """Absolute folder."""
    storage: str | None = None
    """URL of the second place for artifacts."""
    number: int | None = None
    """Counts the runs of the workspace; None for a run without a journal."""


@dataclass
class Run:
    """One run of the pipeline in one workspace, as a stage works with it."""

    store: ArtifactStore
    display: Display = field(default_factory=Silent)
    planning: bool = False
    """Only foresee which artifacts would be made; make nothing."""
    looking: bool = False
    """Serve what is there, as a run does; make nothing."""
    scratch: Path | None = None
    """Where a plan may make what costs nothing, so that it sees further."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    journal: Journal | None = None
    """Where it is written down at once what became of a task, so that a run that is killed has its record."""
    here: bool = True
    """Whether this is the process of the flow, in which the run was started."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Of the tasks in this process, and in the flow's own process of those elsewhere too."""
    futures: list[Any] = field(default_factory=list)
    """Of Prefect, of all tasks that were submitted."""
    parts: dict[str, KeyParts] = field(default_factory=dict)
    """Of every task that a plan has foreseen, by key."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _failures: list[Exception] = field(default_factory=list)
    _forgiven: set[tuple[str, str, str]] = field(default_factory=set)
    _failed: threading.Condition = field(default_factory=threading.Condition)
    """Guards both, and tells of failures."""
    _read: int = 0
    _carried: set[str] = field(default_factory=set)
    """Names of what machines that share no disk have told, and is in the journal."""
    _carrying: threading.Lock = field(default_factory=threading.Lock)
    _seen: bool = False
    """Whether the process of the flow was there when it was looked for."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.display = Shielded(self.display)

    @property
    def workspace(self) -> Path:
        """Folder of the workspace."""
        return self.store.workspace

    @property
    def apart(self) -> bool:
        """Whether this process does not see the workspace of the flow, and has one of its own."""
        return isinstance(self.journal, DistantJournal)

    @property
    def reference(self) -> RunReference:
        """What other processes open the run by."""
        storage = self.store.remote.url if isinstance(self.store.remote, RemoteArtifacts) else None
        return RunReference(self.id, str(self.workspace), storage, self.journal.number if self.journal else None)

    def only_looking(self) -> "Run":
        """The same run, in which a stage serves what is there and makes nothing."""
        same = copy(self)
        same.looking = True
        return same

    def stop(self) -> None:
        """Asks every stage of the run, in whatever process, to end at its next step; from any thread."""
        self._stopping.set()
        if self.journal:
            self.journal.ask_to_stop()

    def should_stop(self) -> bool:
        """Whether somebody has asked the run to stop; away from its flow also whether that is gone."""
        if self._stopping.is_set():
            return True
        return not self.here and self.journal is not None and (self.journal.stop_asked() or self._left_alone())

    def begin_no_more(self) -> None:
        """Lets no stage of this process begin any more, because the run ends early; what works goes on."""
        self._over.set()

    def is_over(self) -> bool:
        """Whether no stage may begin any more."""
        return self._over.is_set() or self.should_stop()

    def _left_alone(self) -> bool:
        held = is_open(self.workspace, self.id)
        self._seen = self._seen or bool(held)
        return held is False or (self._seen and held is None)

    def fail(self, error: Exception) -> None:
        """Notes a failure, from any thread; the first one counts."""
        with self._failed:
            self._failures.append(error)
            self._failed.notify_all()

    def forgive(self, error: Exception) -> None:
        """Lets a failure count no more, now or when it is noted: the run goes on without what failed.

        A failure of another task, see :func:`failing_in`, counts although it says the same.
        """
        with self._failed:
            self._forgiven.add(_which(error))

    def first_failure(self, wait_seconds: float = 0.0) -> Exception | None:
        """The first failure of a task that was not forgiven, waiting a while for one to be noted."""
        with self._failed:
            self._failed.wait_for(self._counting, wait_seconds)
            return self._counting()

    def _counting(self) -> Exception | None:
        return next((error for error in self._failures if _which(error) not in self._forgiven), None)

    def waits(self, what: str) -> None:
        """Shows that the task of this thread waits for something, or with an empty text that it goes on."""
        if label := getattr(_thread, "label", ""):
            self.display.waits(label, what)

    def record(self, outcome: Outcome) -> None:
        """Notes what became of a task, from any thread."""
        with self._lock:
            self.outcomes.append(outcome)
            if self.journal:
                self.journal.write({"task": asdict(outcome)})
        self.display.finished(outcome.label, outcome)

    def record_failure(self, stage: str, language: str | None, subject: str | None, seconds: float) -> None:
        """Notes that a task ended in an error, from any thread; what the error says is not written down."""
        if self.journal:
            failure = {"stage": stage, "language": language, "subject": subject, "seconds": round(seconds, 3)}
            self.journal.write({"failed": failure})

    def catch_up(self) -> None:
        """Takes in what other processes have told of this run since it was last looked."""
        self.carry_over()
        self.take_in()

    def told(self) -> list[Outcome]:
        """What became of the tasks of this run so far, wherever they ran, as far as its record is here."""
        lines = self.journal.read_from(0)[0] if self.journal and self.journal.path.is_file() else []
        with self._lock:
            return [*(Outcome(**line["task"]) for line in lines if "task" in line), *self.outcomes]

    def carry_over(self) -> None:
        """Writes into the journal what machines that do not see it told, and tells them to stop if that is asked."""
        words = self.store.remote
        if not (self.here and self.journal and isinstance(words, RemoteArtifacts)):
            return
        with self._carrying:
            if self._stopping.is_set() and STOP not in self._carried:
                words.tell(self.id, STOP, b"")
                self._carried.add(STOP)
            for name, content in words.told(self.id, self._carried).items():
                with suppress(ValueError):  # it is being written
                    self.journal.write(json.loads(content))
                    self._carried.add(name)

    def forget_words(self) -> None:
        """Takes away what was carried over."""
        if self._carried and isinstance(self.store.remote, RemoteArtifacts):
            self.store.remote.forget(self.id)

    def take_in(self) -> None:
        """Takes in what stands in the journal since it was last read."""
        with self._lock:
            lines, self._read = self.journal.read_from(self._read) if self.journal else ([], 0)
            for line in lines:
                if "by" in line:
                    # One that another release wrote costs no other.
                    harmless(self._take_in)(line)

    def _take_in(self, line: dict[str, Any]) -> None:
        if "task" in line:
            outcome = Outcome(**line["task"])
            self.outcomes.append(outcome)
            self.display.finished(outcome.label, outcome)
        elif "starting" in line:
            self.display.started(**line["starting"])
        elif "ended" in line:
            self.display.failed(line["ended"])
        elif "note" in line:
            self.display.note(line["note"])


_live: dict[str, Run] = {}


@contextmanager
def live(run: Run) -> Iterator[Run]:
    """Makes a run the one that stages in this process find by its reference, and shows what those elsewhere tell."""
    ended = threading.Event()

    def follow() -> None:
        carried = time.monotonic()
        while not ended.wait(FOLLOWING_SECONDS):
            if time.monotonic() - carried > WORDS_SECONDS:
                harmless(run.carry_over)()
                carried = time.monotonic()
            harmless(run.take_in)()

    follower = threading.Thread(target=follow, name="mlc-follow", daemon=True)
    _live[run.id] = run
    follower.start()
    try:
        yield run
    finally:
        del _live[run.id]
        ended.set()
        follower.join()
        for last in (run.carry_over, run.take_in, run.forget_words):
            harmless(last)()


def live_runs() -> list[Run]:
    """The runs that were started in this process and have not ended."""
    return list(_live.values())


def open_run(run: Run | RunReference) -> Run:
    """The run of a reference: the live one in the process of its flow; elsewhere one that writes to its journal."""
    if isinstance(run, Run):
        return run
    return _live.get(run.id) or _opened(run)


@lru_cache(maxsize=16)
def _opened(reference: RunReference) -> Run:
    remote = RemoteArtifacts(reference.storage) if reference.storage else None
    store = ArtifactStore(Path(os.environ.get(WORKSPACE_VARIABLE, reference.workspace)), remote)
    if reference.number is None:
        return Run(store, id=reference.id, here=False)
    by = f"{socket.gethostname()}:{os.getpid()}"
    journal = Journal.of(store.workspace, reference.number, by=by)
    record = read_record(journal.path)
    if record is None or record.id != reference.id:
        if remote is None:
            raise UserError(
                f"The workspace {reference.workspace!r} of this run is not that of this machine, and the run has no "
                "storage: share the folder between the machines, or set storage."
            )
        journal = DistantJournal(remote, reference.id, journal.path, reference.number, by)
    return Run(store, Reporting(journal), id=reference.id, journal=journal, here=False)


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


_thread = threading.local()


@contextmanager
def working_on(label: str) -> Iterator[None]:
    """Says which task this thread works on inside the block, by its name for people."""
    outer = getattr(_thread, "label", "")
    _thread.label = label
    try:
        yield
    finally:
        _thread.label = outer


def working_time() -> float:
    """Seconds of this thread, without those that it waited for others."""
    return time.perf_counter() - waited_time()


@contextmanager
def waiting(turn: AbstractContextManager[Any]) -> Iterator[None]:
    """Enters a block when its turn has come; the time until then is no work of this thread."""
    began = time.perf_counter()
    with turn:
        _thread.waited = waited_time() + time.perf_counter() - began
        yield


def waited_time() -> float:
    """Seconds that this thread has waited for others, such as for the device."""
    return float(getattr(_thread, "waited", 0.0))
