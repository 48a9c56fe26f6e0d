"""What Prefect's pages are told of long tasks: little, seldom, and never at the cost of the work."""

import threading
import time
import uuid

import pytest

from tasks.runtime.progress import (
    EVERY_SECONDS,
    FIRST_SECONDS,
    MOST_SPEEDS,
    Board,
    Pace,
    Speed,
    duration,
    steps_of_training,
)

TASK = uuid.uuid4()
LABEL = "align · consistency · seed 0"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sheet:
    """A board with a clock of its own, and what it showed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.board = Board(self.clock, alone=False)
        self.shown: list[tuple[float, str]] = []

    def pace(self, task: uuid.UUID = TASK) -> Pace:
        return self.board.pace(task, LABEL, lambda: lambda percent, words, waits: self.shown.append((percent, words)))

    def after(self, seconds: float) -> None:
        self.clock.now += seconds
        self.board.look()

    @property
    def last(self) -> tuple[float, str]:
        return self.shown[-1]


@pytest.fixture
def sheet() -> Sheet:
    return Sheet()


def test_a_short_task_shows_nothing(sheet: Sheet) -> None:
    pace = sheet.pace()
    pace.restart(3)
    pace.move(3)
    sheet.after(FIRST_SECONDS - 0.1)
    sheet.board.close(TASK, over=True)
    sheet.after(100)
    assert sheet.shown == []


def test_a_task_is_shown_seldom_however_often_it_moves(sheet: Sheet) -> None:
    pace = sheet.pace()
    pace.restart(10_000)
    for _ in range(600):
        pace.move(1, 50, loss=0.5)
        sheet.after(0.1)
    seconds = 60
    assert 1 < len(sheet.shown) <= 1 + (seconds - FIRST_SECONDS) / EVERY_SECONDS + 1


def test_what_did_not_move_is_not_told_again(sheet: Sheet) -> None:
    pace = sheet.pace()
    pace.restart(10)
    for _ in range(10):
        sheet.after(EVERY_SECONDS)
    assert sheet.shown == [(0.0, "0 of 10")]


def test_step_loss_speed_and_time_left(sheet: Sheet) -> None:
    pace = sheet.pace()
    pace.restart(100)
    # A training that goes on counts at once what it did before.
    pace.move(40, 1_000_000, loss=2.0)
    sheet.after(FIRST_SECONDS)
    assert sheet.last == (40.0, "40 of 100 · loss 2")
    pace.move(10, 5000, loss=0.12345)
    sheet.after(EVERY_SECONDS)
    assert sheet.last == (50.0, "25 s left · 50 of 100 · loss 0.1235 · 1,000 tokens/s")
    pace.restart(8)
    sheet.after(EVERY_SECONDS)
    assert sheet.last[0] == 0.0


@pytest.mark.parametrize("over", [True, False])
def test_the_end_of_what_was_shown_is_told(sheet: Sheet, over: bool) -> None:
    pace = sheet.pace()
    pace.restart(4)
    pace.move(1)
    sheet.after(FIRST_SECONDS)
    sheet.board.close(TASK, over=over, wait_seconds=0)
    sheet.after(0.5)
    told = "done" if over else "ended before it was done"
    assert sheet.last == (100.0 if over else 25.0, f"{told} · 1 of 4 · 2 s")
    sheet.after(100)
    assert len(sheet.shown) == 2
    assert sheet.board.known(TASK) is None


def test_a_wait_for_the_device_is_told_at_once_when_the_task_is_shown_already(sheet: Sheet) -> None:
    pace = sheet.pace()
    pace.restart(4)
    pace.move(1)
    sheet.after(FIRST_SECONDS)
    pace.wait("the device", sheet.clock())
    sheet.after(0.5)
    assert sheet.last == (25.0, "waiting for the device · 1 of 4")
    pace.wait("", sheet.clock())
    sheet.after(0.5)
    assert sheet.last == (25.0, "1 of 4")
    pace.move(3)
    sheet.after(1.5)
    sheet.board.close(TASK, over=True, wait_seconds=0)
    sheet.after(0)
    # The time of its work, without the wait.
    assert sheet.last == (100.0, "done · 4 of 4 · 2 s")


def test_a_server_that_hangs_holds_no_task_up() -> None:
    board, asked, answers = Board(), threading.Event(), threading.Event()

    def hangs(percent: float, words: str, waits_for: str) -> None:
        asked.set()
        answers.wait(30)

    board.pace(TASK, LABEL, lambda: hangs).began -= FIRST_SECONDS
    assert asked.wait(30)
    began = time.monotonic()
    board.close(TASK, over=True, wait_seconds=0.05)
    assert time.monotonic() - began < 5
    answers.set()


def test_a_failing_page_costs_the_others_nothing(sheet: Sheet) -> None:
    def fails(percent: float, words: str, waits_for: str) -> None:
        raise OSError

    sheet.board.pace(uuid.uuid4(), LABEL, lambda: fails)
    sheet.pace()
    sheet.after(FIRST_SECONDS)
    assert sheet.shown == [(0.0, "running for 2 s")]


def test_a_training_tells_tokens_of_each_step_though_it_counts_all_so_far() -> None:
    told: list[tuple[int, int, float | None]] = []
    clock = iter([10.0, 12.0, 13.0])
    speed = Speed(3, lambda: next(clock))

    def moved(steps: int, tokens: int, loss: float | None) -> None:
        told.append((steps, tokens, loss))

    step = steps_of_training(moved, ("num_tokens", "more"), speed)
    step(1, {"num_tokens": 100.0, "more": 20.0, "loss": 1.5})
    step(2, {"num_tokens": 180.0, "more": 40.0, "loss": 1.25})
    step(3, {})
    assert told == [(1, 120, 1.5), (1, 100, 1.25), (1, 0, None)]
    # The first step has what it took to begin, and the last one told of no tokens.
    assert speed.curve == [(2, 50.0)]


def test_a_training_that_goes_on_has_no_speed_where_it_was_before() -> None:
    clock = iter([10.0, 12.0])
    speed = Speed(4, lambda: next(clock))
    step = steps_of_training(lambda steps, tokens, loss: None, ("num_tokens",), speed)
    step(1, {"step": 1, "num_tokens": 100.0})
    step(2, {"step": 2, "num_tokens": 200.0})
    step(3, {"num_tokens": 300.0})
    step(4, {"num_tokens": 400.0})
    assert speed.curve == [(4, 50.0)]


@pytest.mark.parametrize(("steps", "points"), [(1, 0), (MOST_SPEEDS, MOST_SPEEDS - 1), (2 * MOST_SPEEDS + 1, 133)])
def test_the_curve_of_a_long_training_has_few_points(steps: int, points: int) -> None:
    now = [0.0]
    speed = Speed(steps, lambda: now[0])
    for number in range(1, steps + 1):
        now[0] += 0.5
        speed.step(number, 30.0 * number)
    assert len(speed.curve) == points
    assert {round(each, 6) for _, each in speed.curve} <= {60.0}


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (250, "4 min 10 s"), (3600 * 5 + 61, "5 h 1 min")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
