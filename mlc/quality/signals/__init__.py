"""The quality signals, one file each: how it is measured and when it drops a row. They are listed in `mlc.catalogue`.

Light to import.
"""

from collections.abc import Iterable, Sequence
from functools import cache

from mlc import catalogue
from mlc.errors import UserError
from mlc.quality.signals.quality import QUALITY
from mlc.quality.signals.signal import Column, Direction, Rule, Scope, Signal, Threshold


@cache
def signals_of(more: tuple[str, ...] = ()) -> tuple[Signal, ...]:
    """All signals in order of priority: the reason of a row is the first one that fails.

    Args:
        more: Signals of one's own beside those that ship, as ``module:object``.

    Raises:
        UserError: One of them cannot be loaded, or does not fit.
    """
    shipped: list[Signal] = [catalogue.SIGNALS.load(name) for name in catalogue.SIGNALS.places]
    own: list[Signal] = [catalogue.SIGNALS.load(name) for name in more]
    for place, (name, signal) in enumerate(zip(more, own, strict=True)):
        _check(name, signal, [*shipped, *own[:place]])
    return tuple(sorted([*shipped, *own], key=lambda signal: signal.priority))


def text_signals(more: tuple[str, ...] = ()) -> tuple[Signal, ...]:
    """Signals that need no model, in order of priority."""
    return tuple(signal for signal in signals_of(more) if signal.scope is not Scope.MODEL)


def chosen_signals(names: Iterable[str], known: Sequence[Signal]) -> tuple[Signal, ...]:
    """Signals by name with those whose columns they use, in the order of priority.

    Args:
        names: Names of signals that are known.
        known: Signals to choose from, in the order of priority.
    """
    wanted, waiting = set[str](), list(names)
    by_name = {signal.name: signal for signal in known}
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(by_name[name].uses)
    return tuple(signal for signal in known if signal.name in wanted)


def rules_of(signals: Sequence[Signal]) -> tuple[Rule, ...]:
    """All rules in order of priority: those of signals, and the one that reads the calibrated quality."""
    return tuple(sorted([*signals, QUALITY], key=lambda rule: rule.priority))


def modules_of(scopes: Sequence[Scope], more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Dotted names of the modules that declare the signals of some scopes."""
    named = {name: catalogue.SIGNALS.load(name) for name in (*catalogue.SIGNALS.places, *more)}
    return tuple(catalogue.SIGNALS.module(name) for name, signal in named.items() if signal.scope in scopes)


def _check(name: str, signal: Signal, others: Sequence[Signal]) -> None:
    """Refuses a signal of one's own that would not work beside the others."""
    taken = {rule.name for rule in (*others, QUALITY)}
    columns = {column.name for other in others for column in other.columns}
    limits = {threshold.name for rule in (*others, QUALITY) for threshold in rule.thresholds}
    own_columns = {column.name for column in signal.columns}
    problem = None
    if signal.scope is not Scope.ROW:
        problem = "it needs more than one pair at a time"
    elif signal.name in taken or columns & own_columns or limits & {limit.name for limit in signal.thresholds}:
        problem = "another signal has its name, or one of its columns or thresholds"
    elif not signal.measure or not {*signal.uses} <= taken:
        problem = "it has no measure, or its rule uses a signal that is not there"
    elif not own_columns or not all(one.startswith("signal_") and one.isidentifier() for one in own_columns):
        problem = "the names of its columns have to begin with signal_"
    elif not signal.name.isidentifier() or not all(limit.name.isidentifier() for limit in signal.thresholds):
        problem = "its name and those of its thresholds have to be letters, digits and underscores"
    if problem:
        raise UserError(f"The signal {name!r} cannot be used: {problem}. Change its declaration.")


SIGNALS = signals_of()
"""Every signal that ships, in order of priority."""

TEXT_SIGNALS = text_signals()
"""Signals that need no model."""

MODEL_SIGNALS = tuple(signal for signal in SIGNALS if signal.scope is Scope.MODEL)
"""Signals that are measured only where the text signals found nothing."""

SIGNAL_COLUMNS: tuple[str, ...] = tuple(column.name for signal in SIGNALS for column in signal.columns)
"""Names of all stored columns, in order."""

TEXT_COLUMNS: tuple[str, ...] = tuple(column.name for signal in TEXT_SIGNALS for column in signal.columns)
"""Names of the columns of the text signals, in order."""

RULES = tuple(rule.name for rule in rules_of(SIGNALS))
"""Names of all rules, in order of priority; the last one reads the calibrated quality."""

__all__ = [
    "MODEL_SIGNALS",
    "QUALITY",
    "RULES",
    "SIGNALS",
    "SIGNAL_COLUMNS",
    "TEXT_COLUMNS",
    "TEXT_SIGNALS",
    "Column",
    "Direction",
    "Rule",
    "Scope",
    "Signal",
    "Threshold",
    "chosen_signals",
    "modules_of",
    "rules_of",
    "signals_of",
    "text_signals",
]
