"""What only shows never fails what works."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.terminal.display import TerminalDisplay, named_bars
from mlc.store import ArtifactStore
from tasks.runtime.run import Outcome, Run, Silent

LABEL = "translate · spa_Latn"
OUTCOME = Outcome("translate", "spa_Latn", None, "ran", 1.5, "new", "k" * 64)


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def test_tasks_of_one_name_have_a_bar_each() -> None:
    with TerminalDisplay(console()) as display:
        for _ in range(2):
            display.started(LABEL, "new")
        moved = display.bar(LABEL, 7)
        display.finished(LABEL, OUTCOME)
        moved(3)
        assert [(task.completed, task.total) for task in display.progress.tasks] == [(3, 7)]
        display.finished(LABEL, OUTCOME)
        assert display.progress.tasks == []


def test_a_bar_counts_tokens_a_second() -> None:
    with TerminalDisplay(console()) as display:
        display.started(LABEL, "new")
        for steps, tokens in ((5, 90), (2, None)):
            display.bar(LABEL, 7)(steps, tokens)
            (task,) = display.progress.tasks
            # A bar that begins again counts anew.
            assert (task.completed, task.fields["tokens"]) == (steps, tokens or 0)
        display.bar(LABEL, 7)(1, 1000)
        (task,) = display.progress.tasks
        assert "tokens/s" in str(display.progress.columns[4].render(task))


def test_a_bar_that_has_gone_can_still_be_moved(tmp_path: Path) -> None:
    with TerminalDisplay(console()) as display:
        run = Run(ArtifactStore(tmp_path), display)
        moved = run.display.bar(LABEL, 7)
        run.display.finished(LABEL, OUTCOME)
        moved(1)
        run.display.finished(LABEL, OUTCOME)
    with named_bars(console()) as bar:
        moved = bar("x", 2)
    moved(1)


class Broken(Silent):
    """A display that fails at whatever it is told."""

    def started(self, label: str, reason: str) -> None:
        raise KeyError(3)

    def bar(self, label: str, total: int) -> None:  # type: ignore[override]
        raise UnicodeEncodeError("ascii", "ä", 0, 1, "no")

    def finished(self, label: str, outcome: Outcome) -> None:
        raise OSError("gone")

    def note(self, sentence: str) -> None:
        raise RuntimeError

    def close(self) -> None:
        raise ValueError


def test_no_error_of_a_display_reaches_a_stage(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path), Broken())
    run.display.started(LABEL, "new")
    run.display.bar(LABEL, 2)(1)
    run.record(OUTCOME)
    run.display.note("Something is odd.")
    run.display.close()
    assert run.outcomes == [OUTCOME]


def test_an_interrupt_goes_through(tmp_path: Path) -> None:
    class Interrupted(Silent):
        def note(self, sentence: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(ArtifactStore(tmp_path), Interrupted()).display.note("x")
