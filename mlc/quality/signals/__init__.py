"""The quality signals, one file each. A new one is a file here, its query in ``sql/`` and a line below."""

from mlc.quality.signals.confidence import CONFIDENCE
from mlc.quality.signals.copied import COPIED
from mlc.quality.signals.cut_off import CUT_OFF
from mlc.quality.signals.empty import EMPTY
from mlc.quality.signals.language import LANGUAGE
from mlc.quality.signals.length import LENGTH
from mlc.quality.signals.numbers import NUMBERS
from mlc.quality.signals.placeholders import PLACEHOLDERS
from mlc.quality.signals.repetition import REPETITION
from mlc.quality.signals.script import SCRIPT
from mlc.quality.signals.sentences import SENTENCES
from mlc.quality.signals.signal import Column, Direction, Signal

SIGNALS: tuple[Signal, ...] = (
    EMPTY,
    COPIED,
    SCRIPT,
    LANGUAGE,
    REPETITION,
    CUT_OFF,
    PLACEHOLDERS,
    NUMBERS,
    LENGTH,
    SENTENCES,
    CONFIDENCE,
)
"""Every signal, in order of priority: the reason of a row is the first one that fails."""

SIGNAL_COLUMNS: tuple[str, ...] = tuple(column.name for signal in SIGNALS for column in signal.columns)
"""Names of all stored columns, in order."""

__all__ = ["SIGNALS", "SIGNAL_COLUMNS", "Column", "Direction", "Signal"]
