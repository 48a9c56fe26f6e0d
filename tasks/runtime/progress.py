"""What Prefect's pages show of a task that goes on: how far it is, how fast, the time left, and what it waits for.

Each task that takes a while has one progress artifact. What a task tells is only noted; a thread of its own reads the
notes now and then and talks to Prefect, so that a server that is slow or gone holds no work up.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Running
from prefect.utilities.engine import emit_task_run_state_change_event

from tasks.runtime.run import Display, Outcome, Run, Shielded, harmless

FIRST_SECONDS = 2.0
"""A task that is over sooner, and a wait that is, shows nothing."""
EVERY_SECONDS = 5.0
"""The least between two updates of one task."""
LOOK_SECONDS = 0.5
LAST_SECONDS = 2.0
"""How long a task waits in the end for its last update to go out."""
MOST_SPEEDS = 200
"""Points of the curve of a training's speed."""
WAITING = "Waiting"
"""What Prefect calls the state of a task that waits for the device; its type is that of a task that runs."""
_MINUTE, _HOUR = 60, 3600

Show = Callable[[float, str, str], None]
"""Shows a share, 0 to 100, words, and what the task waits for; empty for nothing."""


@dataclass
class Pace:
    """How far one task is."""

    label: str
    began: float
    """In seconds of any clock, as are all times here."""
    total: int = 0
    """Steps; 0 while nobody has counted them."""
    done: int = 0
    tokens: int = 0
    loss: float | None = None
    waits_for: str = ""
    from_here: tuple[float, int, int] | None = None
    """When the pace was first looked at, with the steps and tokens until then: what a training that goes on has done
    before says nothing of its speed."""

    def restart(self, total: int) -> None:
        """Begins to count anew: a task may do its work in several rounds."""
        self.total, self.done, self.tokens, self.from_here = total, 0, 0, None

    def move(self, steps: int, tokens: int | None = 0, loss: float | None = None) -> None:
        """Counts steps, and the tokens that they were about."""
        self.done += steps
        self.tokens += tokens or 0
        self.loss = self.loss if loss is None else loss

    def wait(self, what: str, now: float) -> None:
        """Notes what it waits for; when it goes on, its time begins."""
        if self.waits_for and not what:
            self.began, self.from_here = now, None
        self.waits_for = what

    @property
    def percent(self) -> float:
        """Share of the steps that is done, 0 to 100."""
        return min(100.0, round(100.0 * self.done / self.total, 1)) if self.total else 0.0

    def words(self, now: float) -> str:
        """Where it is: time left, step, loss, tokens a second, as far as each is known; pages cut what is long."""
        told = [f"{self.done} of {self.total}"] if self.total else []
        if self.waits_for:
            return " · ".join([f"waiting for {self.waits_for}", *told])
        if self.loss is not None:
            told.append(f"loss {self.loss:.4g}")
        if self.from_here is None and self.done:
            self.from_here = now, self.done, self.tokens
        at, done, tokens = self.from_here or (now, 0, 0)
        if now > at and self.tokens > tokens:
            told.append(f"{(self.tokens - tokens) / (now - at):,.0f} tokens/s")
        if now > at and self.total >= self.done > done:
            told.insert(0, f"{duration((self.total - self.done) * (now - at) / (self.done - done))} left")
        return " · ".join(told) or f"running for {duration(now - self.began)}"

    def last_words(self, now: float, *, over: bool) -> str:
        """What is said in the end.

        Args:
            now: The time.
            over: Whether the work is done; if not, it failed or was stopped.
        """
        ended = "done" if over else "ended before it was done"
        counted = f"{self.done} of {self.total}" if self.total else ""
        loss = "" if self.loss is None else f"loss {self.loss:.4g}"
        return " · ".join(text for text in (ended, counted, loss, duration(now - self.began)) if text)


def duration(seconds: float) -> str:
    """Seconds in words of at most two units, such as ``4 min 10 s``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


@dataclass
class _Shown:
    """One task on the board."""

    pace: Pace
    show: Show
    last: float | None = None
    """When it was last shown; None while it never was."""
    told: str = ""
    over: bool | None = None
    """Whether the task is done, or ended otherwise; None while it goes on."""
    gone: threading.Event = field(default_factory=threading.Event)

    def due(self, now: float) -> bool:
        if self.last is None:
            return now - self.pace.began >= FIRST_SECONDS
        # Whoever looks for what stands still wants to know at once.
        waits = self.told.startswith("waiting") != bool(self.pace.waits_for)
        return waits or now - self.last >= EVERY_SECONDS


class Board:
    """The tasks of this process that go on, shown now and then.

    Args:
        clock: Gives the time in seconds.
        alone: Whether a thread of its own looks at it while there are tasks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, alone: bool = True) -> None:
        self.clock = clock
        self._alone = alone
        self._open: dict[UUID, _Shown] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._looking = False

    def pace(self, task: UUID, label: str, show: Callable[[], Show]) -> Pace:
        """The pace of a task that goes on, from its first call.

        Args:
            task: Id of the task run.
            label: Name of the task.
            show: Makes what shows it, in the thread of the task.
        """
        with self._lock:
            if task not in self._open:
                self._open[task] = _Shown(Pace(label, self.clock()), show())
            if self._alone and not self._looking:
                self._looking = True
                threading.Thread(target=self._look_on, name="mlc-progress", daemon=True).start()
            return self._open[task].pace

    def known(self, task: UUID) -> Pace | None:
        """The pace of a task, if it was asked for before."""
        with self._lock:
            shown = self._open.get(task)
        return shown.pace if shown else None

    def close(self, task: UUID, *, over: bool, wait_seconds: float = LAST_SECONDS) -> None:
        """Shows the end of a task that was shown, and forgets it.

        Args:
            task: Id of the task run.
            over: Whether its work is done.
            wait_seconds: How long to wait for that.
        """
        with self._lock:
            shown = self._open.get(task)
            if shown is None:
                return
            shown.over = over
            if shown.last is None:
                del self._open[task]
                return
        self._changed.set()
        shown.gone.wait(wait_seconds)

    def look(self) -> None:
        """Shows what is due."""
        now = self.clock()
        with self._lock:
            due = [(task, each) for task, each in self._open.items() if each.over is not None or each.due(now)]
            for _, each in due:
                each.last = now
        for task, each in due:
            ended = each.over
            if ended is None:
                percent, words = each.pace.percent, each.pace.words(now)
            else:
                percent = 100.0 if ended else each.pace.percent
                words = each.pace.last_words(now, over=ended)
            if words != each.told:
                each.told = words
                harmless(each.show)(percent, words, each.pace.waits_for)
            if ended is not None:
                with self._lock:
                    self._open.pop(task, None)
                each.gone.set()

    def _look_on(self) -> None:
        while True:
            self._changed.wait(LOOK_SECONDS)
            self._changed.clear()
            self.look()
            with self._lock:
                if not self._open:
                    self._looking = False
                    return


class Watched:
    """A display beside which Prefect's pages show how far the tasks of this process are.

    Args:
        display: What shows all else.
        board: Where the tasks are noted.
    """

    def __init__(self, display: Display, board: Board) -> None:
        self._display = Shielded(display)
        self._board = board

    def started(self, label: str, reason: str) -> None:
        """Passes it on."""
        self._display.started(label, reason)

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Passes it on, and counts."""
        moved, pace = self._display.bar(label, total), harmless(self._pace)(label)
        if pace is None:
            return moved
        pace.restart(total)

        def both(steps: int, tokens: int | None = 0, loss: float | None = None) -> None:
            moved(steps, tokens, loss=loss)
            pace.move(steps, tokens, loss)

        return both

    def waits(self, label: str, what: str) -> None:
        """Passes it on, and notes it."""
        self._display.waits(label, what)
        task = _own_task()
        pace = harmless(self._pace)(label) if what else task and self._board.known(task)
        if pace:
            pace.wait(what, self._board.clock())

    def finished(self, label: str, outcome: Outcome) -> None:
        """Passes it on, and shows the end."""
        self._end(over=True)
        self._display.finished(label, outcome)

    def failed(self, label: str) -> None:
        """Passes it on, and shows the end."""
        self._end(over=False)
        self._display.failed(label)

    def note(self, sentence: str) -> None:
        """Passes it on."""
        self._display.note(sentence)

    def close(self) -> None:
        """Passes it on."""
        self._display.close()

    def _pace(self, label: str) -> Pace | None:
        task = _own_task()
        return self._board.pace(task, label, lambda: _Page(label)) if task else None

    def _end(self, *, over: bool) -> None:
        if task := _own_task():
            self._board.close(task, over=over)


_board = Board()


def watch(run: Run) -> None:
    """Lets Prefect's pages show how far the tasks of a run are that this process computes."""
    if not isinstance(run.display, Watched):
        run.display = Watched(run.display, _board)


class Speed:
    """How fast a training reads, from its second step on.

    Args:
        steps: Steps of the training.
        clock: Gives the time in seconds.
    """

    def __init__(self, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = max(1, -(-steps // MOST_SPEEDS))
        self._clock = clock
        self._since: tuple[float, float] | None = None
        self.curve: list[tuple[int, float]] = []
        """Step, and tokens a second up to it since the point before; at most :data:`MOST_SPEEDS` points."""

    def step(self, number: int, so_far: float) -> None:
        """Notes the end of a step.

        Args:
            number: The step, from 1.
            so_far: Tokens read until now.
        """
        now = self._clock()
        if self._since is None:
            self._since = now, so_far
        elif number % self._every == 0 and now > self._since[0]:
            began, before = self._since
            if so_far > before:
                self.curve.append((number, (so_far - before) / (now - began)))
            self._since = now, so_far


def steps_of_training(
    moved: Callable[..., None], counts: Sequence[str], speed: Speed
) -> Callable[[int, Mapping[str, float]], None]:
    """What a training tells after each step, for a bar and a curve.

    Args:
        moved: Moves the bar.
        counts: Figures that add up to the tokens read so far.
        speed: Draws the curve.
    """
    read = 0.0

    def step(number: int, figures: Mapping[str, float]) -> None:
        nonlocal read
        so_far = max(read, sum(figures.get(name, 0.0) for name in counts))
        moved(1, round(so_far - read), loss=figures.get("loss"))
        # What a training that goes on did before is told again at once, as it was written down: with its number.
        if "step" not in figures:
            speed.step(number, so_far)
        read = so_far

    return step


def _own_task() -> UUID | None:
    """Id of the task run that this thread computes, if it computes one."""
    context = TaskRunContext.get()
    return context.task_run.id if context else None


class _Page:
    """One progress artifact and the state of the task run of this thread; shown from any one thread.

    Args:
        label: Name of the task.
    """

    def __init__(self, label: str) -> None:
        context = TaskRunContext.get()
        assert context is not None
        self._task_run, self._here = context.task_run, copy_context()
        self._key = _key(label)
        self._artifact: UUID | None = None
        self._waits = False

    def __call__(self, percent: float, words: str, waits_for: str) -> None:
        self._here.run(self._tell, waits_for)
        self._here.run(self._show, percent, words)

    def _show(self, percent: float, words: str) -> None:
        if self._artifact is None:
            # The call gives an id, where it is not asked for by a coroutine.
            self._artifact = cast(UUID, create_progress_artifact(percent, key=self._key, description=words))
        else:
            update_progress_artifact(self._artifact, percent, words)

    def _tell(self, waits_for: str) -> None:
        """Gives the task run the state of waiting, or the one of running back, in the way in which its engine does."""
        if bool(waits_for) == self._waits:
            return
        self._waits = bool(waits_for)
        state: State[None] = Running(name=WAITING, message=f"Waiting for {waits_for}.") if waits_for else Running()
        emit_task_run_state_change_event(self._task_run, self._task_run.state or Running(), state)


def _key(label: str) -> str:
    """Prefect's artifacts are found by key, and keys are lower-case with hyphens."""
    return f"progress-{'-'.join(re.findall(r'[a-z0-9]+', label.lower()))}"
