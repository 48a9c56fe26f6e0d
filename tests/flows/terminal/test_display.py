"""What only shows never fails what works."""

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.terminal.display import TerminalDisplay, named_bars
from mlc.store import ArtifactStore
from tasks.runtime.run import Outcome, Run, Silent

LABEL = "translate · spa_Latn"
OUTCOME = Outcome("translate", "spa_Latn", None, "ran", 1.5, "new", "k" * 64)


def console(width: int = 100, *, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def shown(display: TerminalDisplay) -> list[str]:
    """The lines of the bars."""
    lines = display.console.render_lines(display.progress.get_renderable(), pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


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
        assert "tokens/s" in shown(display)[0]


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


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_training_shows_loss_and_time_left_in_one_line(width: int) -> None:
    label = "align · consistency-with-gate-and-answers · seed 0"
    with TerminalDisplay(console(width)) as display:
        display.started(label, "new")
        moved = display.bar(label, 90_000)
        for step in range(3):
            time.sleep(0.01)
            moved(1, 1000, loss=1.5 - step / 4)
        (line,) = shown(display)
        assert len(line) <= width
        assert "3/90,000" in line
        assert "loss 1 " in line
        assert " · seed 0 " in line
        assert line.rstrip().endswith("left")
        assert ("tokens/s" in line) == (width >= 100)


def test_what_waits_for_the_device_says_so_until_it_goes_on() -> None:
    with TerminalDisplay(console(80)) as display:
        display.started(LABEL, "new")
        display.bar(LABEL, 7)
        display.waits(LABEL, "the device")
        assert "waiting for the device" in shown(display)[0]
        display.waits(LABEL, "")
        assert "waiting" not in shown(display)[0]
        assert "0/7" in shown(display)[0]


def test_at_80_columns_the_end_of_a_long_name_is_there_while_it_waits() -> None:
    with TerminalDisplay(console(80)) as display:
        for language in ("spa_Latn", "arb_Arab"):
            label = f"generate · english-only · seed 0 · {language}"
            display.started(label, "new")
            display.waits(label, "the device")
        first, second = shown(display)
        assert first.strip(" ⠋").startswith("generate · english-o… · Spanish ")
        assert "… · Modern Standard Arabic " in second
        assert max(map(len, (first, second))) <= 80


def test_what_fails_leaves_no_bar() -> None:
    with TerminalDisplay(console()) as display:
        display.started(LABEL, "new")
        display.bar(LABEL, 7)(2)
        display.failed(LABEL)
        assert shown(display) == []


def test_a_named_bar_goes_with_its_last_step() -> None:
    terminal = console()
    with named_bars(terminal) as bar:
        bar("translating", 2)(2)
        bar("asking", 3)(1)
    last = terminal.file.getvalue().rpartition("asking")[0].rpartition("\r")[2]  # type: ignore[attr-defined]
    assert "translating" not in last


def test_a_pipe_gets_whole_lines_and_no_bars() -> None:
    with TerminalDisplay(console(80, terminal=False)) as display:
        display.started(LABEL, "new")
        display.bar(LABEL, 7)(2)
        display.finished(LABEL, replace(OUTCOME, reason="a reason that is long " * 5))
        display.note("Something " * 20)
    assert display.console.file.getvalue().count("\n") == 2  # type: ignore[attr-defined]


class Broken(Silent):
    """A display that fails at whatever it is told."""

    def started(self, label: str, reason: str) -> None:
        raise KeyError(3)

    def bar(self, label: str, total: int) -> None:  # type: ignore[override]
        raise UnicodeEncodeError("ascii", "ä", 0, 1, "no")

    def waits(self, label: str, what: str) -> None:
        raise LookupError

    def finished(self, label: str, outcome: Outcome) -> None:
        raise OSError("gone")

    def failed(self, label: str) -> None:
        raise TypeError

    def note(self, sentence: str) -> None:
        raise RuntimeError

    def close(self) -> None:
        raise ValueError


def test_no_error_of_a_display_reaches_a_stage(tmp_path: Path) -> None:
    run = Run(ArtifactStore(tmp_path), Broken())
    run.display.started(LABEL, "new")
    run.display.bar(LABEL, 2)(1)
    run.display.waits(LABEL, "the device")
    run.record(OUTCOME)
    run.display.failed(LABEL)
    run.display.note("Something is odd.")
    run.display.close()
    assert run.outcomes == [OUTCOME]


def test_an_interrupt_goes_through(tmp_path: Path) -> None:
    class Interrupted(Silent):
        def note(self, sentence: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(ArtifactStore(tmp_path), Interrupted()).display.note("x")
