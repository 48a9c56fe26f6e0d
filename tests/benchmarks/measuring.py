"""How a figure is measured: works take turns in one process, and only their ratio is kept."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from operator import truediv
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Turns:
    """Seconds that one work took, one for each round."""

    wall: list[float] = field(default_factory=list)
    """By the clock: what a person waits."""
    cpu: list[float] = field(default_factory=list)
    """On the processor, all threads together; waiting for other processes does not count."""


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    benchmark: str
    figure: str
    value: float
    unit: str
    detail: dict[str, Any]
    """What was divided by what, the range over the rounds, and the sizes."""

    def to_json(self) -> str:
        """The figure as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)


def progress(text: str) -> None:
    """Tells on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


def alternate(works: Sequence[Callable[[], object]], *, rounds: int, repeats: int = 1) -> list[Turns]:
    """Times works in turns, so that whatever else the machine does meets all of them.

    Nothing is warmed up here: callers have run the works before, to see that they agree.

    Args:
        works: What to time.
        rounds: How often each work gets its turn; the order is reversed every second round.
        repeats: Runs in one turn, for works of a few milliseconds.

    Returns:
        Times of each work, in the order of the works.
    """
    turns = [Turns() for _ in works]
    for round_ in range(rounds):
        order = range(len(works))
        for index in order if round_ % 2 == 0 else reversed(order):
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                works[index]()
            turns[index].wall.append(time.perf_counter() - wall)
            turns[index].cpu.append(time.process_time() - cpu)
        progress(f"  round {round_ + 1} of {rounds}")
    return turns


def ratio(
    benchmark: str,
    name: str,
    means: str,
    above: Turns,
    below: Turns,
    *,
    quotient: Callable[[float, float], float] = truediv,
    **sizes: object,
) -> Figure:
    """The median over the rounds of one time divided by another.

    The value is by the clock. The detail holds the range over the rounds, and as ``cpu`` the median of the same
    quotient of processor times, which other work on the machine disturbs less.

    Args:
        benchmark: Name of the benchmark.
        name: Name of the figure.
        means: What is divided by what, in words.
        above: Times to divide.
        below: Times to divide by, of the same rounds.
        quotient: How the two times of a round are divided.
        **sizes: What else to know.
    """
    quotients = list(map(quotient, above.wall, below.wall))
    detail = {
        "means": means,
        "min": rounded(min(quotients)),
        "max": rounded(max(quotients)),
        "cpu": rounded(statistics.median(map(quotient, above.cpu, below.cpu))),
        "rounds": len(quotients),
        **sizes,
    }
    return Figure(benchmark, name, rounded(statistics.median(quotients)), "ratio", detail)


def require_agreement(what: str, difference: float, tolerance: float) -> None:
    """Refuses to compare the times of two ways that do not compute the same.

    Args:
        what: What was computed in both ways.
        difference: Largest absolute difference.
        tolerance: Largest one that is allowed.

    Raises:
        RuntimeError: The difference is too large, or not a number.
    """
    if not difference <= tolerance:
        raise RuntimeError(f"{what} differ by {difference:.3g} between the two ways, more than {tolerance:g}.")


def rounded(value: float) -> float:
    """Four digits, as figures are printed."""
    return float(f"{value:.4g}")


def peak_kib() -> int:
    """Peak memory of this process. What getrusage says counts the parent's too, from before the program was started."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("The system does not tell the peak memory of a process.")
