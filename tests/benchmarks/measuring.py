"""How a figure is measured: works take turns in one process, and only their ratio is kept."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


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


def alternate(works: Sequence[Callable[[], object]], *, rounds: int, repeats: int = 1) -> list[list[float]]:
    """Times works in turns, so that whatever else the machine does meets all of them.

    Nothing is warmed up here: callers have run the works before, to see that they agree.

    Args:
        works: What to time.
        rounds: How often each work gets its turn; the order is reversed every second round.
        repeats: Runs in one turn, for works of a few milliseconds.

    Returns:
        Seconds of each work, one for each round.
    """
    seconds: list[list[float]] = [[0.0] * rounds for _ in works]
    for round_ in range(rounds):
        order = range(len(works))
        for index in order if round_ % 2 == 0 else reversed(order):
            begun = time.perf_counter()
            for _ in range(repeats):
                works[index]()
            seconds[index][round_] = time.perf_counter() - begun
        progress(f"  round {round_ + 1} of {rounds}")
    return seconds


def ratio(
    benchmark: str,
    name: str,
    means: str,
    numerators: Sequence[float],
    denominators: Sequence[float],
    **sizes: object,
) -> Figure:
    """The median over the rounds of one time divided by another.

    Args:
        benchmark: Name of the benchmark.
        name: Name of the figure.
        means: What is divided by what, in words.
        numerators: Seconds, one for each round.
        denominators: Seconds of the same rounds.
        **sizes: What else to know.
    """
    quotients = [above / below for above, below in zip(numerators, denominators, strict=True)]
    detail = {
        "means": means,
        "min": _short(min(quotients)),
        "max": _short(max(quotients)),
        "rounds": len(quotients),
        **sizes,
    }
    return Figure(benchmark, name, _short(statistics.median(quotients)), "ratio", detail)


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


def _short(value: float) -> float:
    return float(f"{value:.4g}")
