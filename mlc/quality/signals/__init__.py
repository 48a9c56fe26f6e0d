"""The quality signals, one file each. A new one is a file here, its query in ``sql/`` and a line below."""

from mlc.quality.signals.caps import CAPS
from mlc.quality.signals.collapsed import COLLAPSED
from mlc.quality.signals.confidence import CONFIDENCE
from mlc.quality.signals.copied import COPIED
from mlc.quality.signals.cut_off import CUT_OFF
from mlc.quality.signals.empty import EMPTY
from mlc.quality.signals.garbled import GARBLED
from mlc.quality.signals.language import LANGUAGE
from mlc.quality.signals.length import LENGTH
from mlc.quality.signals.lines import LINES
from mlc.quality.signals.meaning import MEANING
from mlc.quality.signals.numbers import NUMBERS
from mlc.quality.signals.placeholders import PLACEHOLDERS
from mlc.quality.signals.repetition import REPETITION
from mlc.quality.signals.reverse import REVERSE
from mlc.quality.signals.round_trip import ROUND_TRIP
from mlc.quality.signals.script import SCRIPT
from mlc.quality.signals.sentences import SENTENCES
from mlc.quality.signals.signal import Column, Direction, Scope, Signal
from mlc.quality.signals.unusable import UNUSABLE

SIGNALS: tuple[Signal, ...] = (
    UNUSABLE,
    EMPTY,
    GARBLED,
    COPIED,
    SCRIPT,
    LANGUAGE,
    CAPS,
    REPETITION,
    CUT_OFF,
    PLACEHOLDERS,
    NUMBERS,
    LENGTH,
    LINES,
    SENTENCES,
    COLLAPSED,
    CONFIDENCE,
    REVERSE,
    ROUND_TRIP,
    MEANING,
)
"""Every signal, in order of priority: the reason of a row is the first one that fails."""

TEXT_SIGNALS = tuple(signal for signal in SIGNALS if signal.scope is not Scope.MODEL)
"""Signals that need no model."""

MODEL_SIGNALS = tuple(signal for signal in SIGNALS if signal.scope is Scope.MODEL)
"""Signals that are measured only where the text signals found nothing."""

SIGNAL_COLUMNS: tuple[str, ...] = tuple(column.name for signal in SIGNALS for column in signal.columns)
"""Names of all stored columns, in order."""

TEXT_COLUMNS: tuple[str, ...] = tuple(column.name for signal in TEXT_SIGNALS for column in signal.columns)
"""Names of the columns of the text signals, in order."""

RULES = (*(signal.name for signal in SIGNALS), "quality")
"""Names of all rules, in order of priority; the last one reads the calibrated quality."""

__all__ = [
    "MODEL_SIGNALS",
    "RULES",
    "SIGNALS",
    "SIGNAL_COLUMNS",
    "TEXT_COLUMNS",
    "TEXT_SIGNALS",
    "Column",
    "Direction",
    "Scope",
    "Signal",
]
