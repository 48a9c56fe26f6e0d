"""What a person sees of a run in the terminal: bars while it works, a line for every task that is done."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from flows.terminal.output import shown
from mlc.languages import resolve_language
from tasks.runtime.run import Outcome, harmless

if TYPE_CHECKING:
    from mlc.translation.translator import Step


class _Bars(Progress):
    """Bars whose errors end no work."""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        harmless(super().advance)(task_id, advance)


class _TokenRate(ProgressColumn):
    """Generated tokens a second."""

    def render(self, task: Task) -> Text:
        tokens, seconds = task.fields.get("tokens", 0), task.elapsed or 0.0
        return Text(f"{tokens / seconds:,.0f} tokens/s" if tokens and seconds else "", style="cyan")


def new_progress(console: Console) -> Progress:
    """Bars that vanish when the work is done, and that only a terminal shows."""
    return _Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _TokenRate(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def named_bars(console: Console) -> Iterator[Callable[[str, int], Callable[..., None]]]:
    """Gives a function that adds a bar, by name and number of steps, and returns what moves it, by steps and tokens."""
    with new_progress(console) as progress:

        def bar(name: str, total: int) -> Callable[..., None]:
            task = progress.add_task(name, total=total, tokens=0)
            written = 0

            def moved(steps: int, tokens: int = 0) -> None:
                nonlocal written
                written += tokens
                progress.update(task, advance=steps, tokens=written)

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

        def moved(steps: int, tokens: int | None = 0) -> None:
            self.progress.tasks[self.progress.task_ids.index(bar)].fields["tokens"] += tokens or 0
            self.progress.advance(bar, steps)

        return moved

    def finished(self, label: str, outcome: Outcome) -> None:
        """Prints the line of a task that is done."""
        with self._lock:
            if self._bars[label]:
                self.progress.remove_task(self._bars[label].pop(0))
        mark, color = ("✓", "green") if outcome.state == "ran" else ("=", "cyan")
        why = outcome.reason if outcome.state == "ran" else "cached"
        line = f"[{color}]{mark}[/] {_readable(label):<46} {outcome.seconds:7.1f} s  [dim]{shown(why)}[/]"
        # A log keeps the whole line, however wide it is.
        cut = {"no_wrap": True, "overflow": "ellipsis"} if self.console.is_terminal else {"soft_wrap": True}
        self.progress.console.print(line, highlight=False, **cut)

    def note(self, sentence: str) -> None:
        """Prints a sentence, once: several stages may come to the same."""
        if sentence in self._noted:
            return
        self._noted.add(sentence)
        self.progress.console.print(f"[yellow]![/] {shown(sentence)}", highlight=False, soft_wrap=True)

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
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("sentences"),
            _TokenRate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
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
