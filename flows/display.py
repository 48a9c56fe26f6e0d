"""What a person sees of a run in the terminal: bars while it works, a line for every task that is done."""

import threading
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlc.languages import resolve_language
from tasks.running import Outcome


def new_progress(console: Console) -> Progress:
    """Bars that vanish when the work is done, and that only a terminal shows."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class TerminalDisplay:
    """Progress on a terminal; in a log file or CI only the lines.

    Args:
        console: Where to write; standard error, because standard output is for results.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = new_progress(console)
        self._bars: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "TerminalDisplay":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, label: str, reason: str) -> None:
        """Shows a task that begins, with its reason."""
        with self._lock:
            self._bars[label] = self.progress.add_task(_readable(label), total=None)

    def bar(self, label: str, total: int) -> Callable[[int], None]:
        """Turns the task's line into a bar."""
        with self._lock:
            bar = self._bars.get(label)
            if bar is None:
                bar = self._bars[label] = self.progress.add_task(_readable(label))
            self.progress.reset(bar, total=total)
        return lambda steps: self.progress.advance(bar, steps)

    def finished(self, label: str, outcome: Outcome) -> None:
        """Prints the line of a task that is done."""
        with self._lock:
            bar = self._bars.pop(label, None)
            if bar is not None:
                self.progress.remove_task(bar)
        mark, color = ("✓", "green") if outcome.state == "ran" else ("=", "cyan")
        why = outcome.reason if outcome.state == "ran" else "cached"
        line = f"[{color}]{mark}[/] {_readable(label):<46} {outcome.seconds:7.1f} s  [dim]{escape(why)}[/]"
        # A log keeps the whole line, however wide it is.
        cut = {"no_wrap": True, "overflow": "ellipsis"} if self.console.is_terminal else {"soft_wrap": True}
        self.progress.console.print(line, highlight=False, **cut)

    def note(self, sentence: str) -> None:
        """Prints a sentence."""
        self.progress.console.print(f"[yellow]![/] {escape(sentence)}", highlight=False, soft_wrap=True)


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
    head, separator, last = label.rpartition(" · ")
    if "_" in last:
        return f"{head}{separator}{resolve_language(last).english_name}"
    return label
