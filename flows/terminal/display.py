"""What a person sees of a run in the terminal: bars while it works, a line for every task that is done."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
)
from rich.table import Column, Table
from rich.text import Text

from flows.terminal.output import shown
from mlc.languages import resolve_language
from tasks.runtime.run import Outcome, harmless

if TYPE_CHECKING:
    from mlc.translation.translator import Step


MEDIUM, WIDE = 100, 120
"""From so many columns on a line has room for all figures, and for a long bar."""
ONE_FIGURE, TWO_FIGURES = 39, 53
"""Columns for all but the name and the bar, with one figure beside the steps or two."""


class _Bars(Progress):
    """Bars whose errors end no work."""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        harmless(super().advance)(task_id, advance)


class _Label(ProgressColumn):
    """The name of the task, cut where the terminal is too narrow: a bar is one line.

    Args:
        room: Columns for it, beyond which its middle goes: the language or seed at its end tells it from others.
    """

    def __init__(self, room: int) -> None:
        super().__init__(Column())
        self._room = room

    def render(self, task: Task) -> Text:
        label = task.description
        if len(label) > self._room:
            head, between, tail = label.rpartition(" · ")
            room = self._room - len(between + tail) - 1
            label = f"{head[:room].rstrip(' ·')}…{between}{tail}" if room > 0 else label
        return Text(label, no_wrap=True, overflow="ellipsis")


class _Steps(ProgressColumn):
    """Steps, loss and tokens a second as far as they are known, or what the task waits for.

    Args:
        narrow: Whether there is room for one figure beside the steps only.
        unit: What is counted.
    """

    def __init__(self, *, narrow: bool, unit: str = "") -> None:
        super().__init__(Column(no_wrap=True))
        self._narrow, self._unit = narrow, unit

    def render(self, task: Task) -> Text:
        if waits_for := task.fields.get("waits_for"):
            return Text(f"waiting for {waits_for}", style="yellow")
        tokens, loss, seconds = task.fields.get("tokens", 0), task.fields.get("loss"), task.elapsed or 0.0
        figures = [] if loss is None else [f"loss {loss:.4g}"]
        if tokens and seconds:
            figures.append(f"{tokens / seconds:,.0f} tokens/s")
        counted = f"{task.completed:,.0f}/{task.total:,.0f}{self._unit}" if task.total else ""
        return Text("  ").join([Text(counted, style="green"), *map(Text, figures[:1] if self._narrow else figures)])


class _Clock(ProgressColumn):
    """Time left, where it is known; else what has gone by."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        left = None if task.fields.get("waits_for") else task.time_remaining
        if left and not task.finished:
            return Text(f"{timedelta(seconds=round(left))} left", style="cyan")
        return Text(str(timedelta(seconds=round(task.finished_time or task.elapsed or 0.0))), style="yellow")


def _columns(console: Console, unit: str = "") -> list[ProgressColumn]:
    narrow, wide = console.width < MEDIUM, console.width >= WIDE
    bar = BarColumn(bar_width=28 if wide else 10, table_column=Column(no_wrap=True))
    room = console.width - (ONE_FIGURE if narrow else TWO_FIGURES) - (28 if wide else 10)
    return [_Label(room), bar, _Steps(narrow=narrow, unit="" if narrow else unit), _Clock()]


def new_progress(console: Console) -> Progress:
    """Bars that vanish when the work is done, and that only a terminal shows."""
    return _Bars(SpinnerColumn(), *_columns(console), console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def named_bars(console: Console) -> Iterator[Callable[[str, int], Callable[..., None]]]:
    """Gives a function that adds a bar, by name and number of steps, and returns what moves it, by steps and tokens.

    A bar goes when its last step is done.
    """
    with new_progress(console) as progress:

        def bar(name: str, total: int) -> Callable[..., None]:
            task = progress.add_task(name, total=total, tokens=0)
            done = written = 0

            def moved(steps: int, tokens: int = 0) -> None:
                nonlocal done, written
                done, written = done + steps, written + tokens
                progress.update(task, completed=done, tokens=written)
                if done >= total:
                    progress.update(task, visible=False)

            return moved

        yield bar


class TerminalDisplay:
    """Progress on a terminal; in a log file or CI only the lines.

    Args:
        console: Where to write; standard error, because standard output is for results.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = new_progress(console)
        # Two tasks may have one name, and each has its own bar.
        self._bars: defaultdict[str, list[TaskID]] = defaultdict(list)
        self._lock = threading.Lock()
        self._noted: set[str] = set()

    def __enter__(self) -> "TerminalDisplay":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, label: str, reason: str) -> None:
        """Shows a task that begins, with its reason."""
        with self._lock:
            self._bars[label].append(self.progress.add_task(_readable(label), total=None))

    def bar(self, label: str, total: int) -> Callable[..., None]:
        """Turns the task's line into a bar, from its beginning."""
        with self._lock:
            if not self._bars[label]:
                self._bars[label].append(self.progress.add_task(_readable(label)))
            bar = self._bars[label][-1]
            self.progress.reset(bar, total=total, tokens=0)
        written, last = 0, None

        def moved(steps: int, tokens: int | None = 0, loss: float | None = None) -> None:
            nonlocal written, last
            written, last = written + (tokens or 0), last if loss is None else loss
            self.progress.update(bar, advance=steps, tokens=written, loss=last)

        return moved

    def waits(self, label: str, what: str) -> None:
        """Says beside the task's bar what it waits for."""
        with self._lock:
            for bar in self._bars[label][-1:]:
                self.progress.update(bar, waits_for=what)

    def finished(self, label: str, outcome: Outcome) -> None:
        """Prints the line of a task that is done."""
        self.failed(label)
        mark, color = ("✓", "green") if outcome.state == "ran" else ("=", "cyan")
        why = outcome.reason if outcome.state == "ran" else "cached"
        line = f"[{color}]{mark}[/] {_readable(label):<46} {outcome.seconds:7.1f} s  [dim]{shown(why)}[/]"
        # A log keeps the whole line, however wide it is.
        cut = {"no_wrap": True, "overflow": "ellipsis"} if self.console.is_terminal else {"soft_wrap": True}
        self.progress.console.print(line, highlight=False, **cut)

    def failed(self, label: str) -> None:
        """Takes the task's bar away."""
        with self._lock:
            if self._bars[label]:
                self.progress.remove_task(self._bars[label].pop(0))

    def note(self, sentence: str) -> None:
        """Prints a sentence, once: several stages may come to the same."""
        if sentence in self._noted:
            return
        self._noted.add(sentence)
        from mlc.report.wording import named

        self.progress.console.print(f"[yellow]![/] {shown(named(sentence))}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the bars away."""
        self.progress.stop()


class TranslationBars:
    """One bar a language: sentences, tokens a second, time left. Only a terminal shows them.

    Args:
        console: Where to write.
        languages: NLLB codes. Of the last one the bar counts the way back, if there is one.
        texts: Number of texts of which the sentences are.
    """

    def __init__(self, console: Console, languages: Sequence[str], texts: int) -> None:
        self.progress = Progress(
            *_columns(console, " sentences"), console=console, transient=True, disable=not console.is_terminal
        )
        self._texts = texts
        self._split = self._planned = self._planned_back = 0
        self._bars = {
            code: self.progress.add_task(resolve_language(code).english_name, total=None, tokens=0)
            for code in languages
        }
        self._back = self._bars[languages[-1]]

    def __enter__(self) -> "TranslationBars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, step: "Step") -> None:
        """Counts what was translated."""
        harmless(self._step)(step)

    def step_back(self, step: "Step") -> None:
        """Counts what was translated back."""
        harmless(self._step_back)(step)

    def _step(self, step: "Step") -> None:
        if step.planned:
            self._split += step.split
            self._planned += step.planned
            # The sentences of texts that are not split yet can only be guessed.
            total = round(self._planned * self._texts / self._split)
            for bar in self._bars.values():
                self.progress.update(bar, total=total)
        if step.target in self._bars:
            self._advance(self._bars[step.target], step)

    def _step_back(self, step: "Step") -> None:
        if step.planned:
            self._planned_back += step.planned
            self.progress.update(self._back, total=max(self._planned_back, self._planned * (len(self._bars) - 1)))
        if step.target:
            self._advance(self._back, step)

    def _advance(self, bar: TaskID, step: "Step") -> None:
        tokens = self.progress.tasks[self.progress.task_ids.index(bar)].fields["tokens"] + step.tokens
        self.progress.update(bar, advance=step.sentences, tokens=tokens)


def outcome_table(outcomes: list[dict[str, object]]) -> Table:
    """Counts and seconds per stage."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "ran", "cached", "seconds"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in dict.fromkeys(str(outcome["stage"]) for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome["stage"] == stage]
        ran = [outcome for outcome in rows if outcome["state"] == "ran"]
        seconds = sum(float(str(outcome["seconds"])) for outcome in rows)
        table.add_row(stage, str(len(ran)), str(len(rows) - len(ran)), f"{seconds:.1f}")
    return table


def _readable(label: str) -> str:
    """Replaces the NLLB code at the end of a label by the language's name."""
    head, separator, last = shown(label).rpartition(" · ")
    if "_" in last:
        return f"{head}{separator}{resolve_language(last).english_name}"
    return shown(label)
