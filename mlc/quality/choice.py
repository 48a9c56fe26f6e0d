"""Which signals a person asks for by name, and whether the thresholds fit them."""

from collections.abc import Collection, Sequence

from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.quality.settings import MODEL_THRESHOLDS, QualitySettings

TEXT, ALL = "text", "all"


def named_signals(words: Sequence[str], more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of signals from what a person wrote, in the order of priority.

    Args:
        words: Names; or ``text`` alone for those that need no model, or ``all``.
        more: Signals of one's own beside those that ship, as ``module:object``.

    Raises:
        UserError: A name is unknown, or there is none.
    """
    from mlc.quality.signals import signals_of, text_signals

    known = [signal.name for signal in signals_of(more)]
    if list(words) in ([TEXT], [ALL]):
        return tuple(known if words[0] == ALL else [signal.name for signal in text_signals(more)])
    for name in words:
        if name not in known:
            hint = hint_among(name, known, f"choose {TEXT}, {ALL}, or from {', '.join(known)}.")
            raise UserError(f"The signal {name!r} is unknown: {hint}")
    if not words:
        raise UserError(f"No signal is named: choose {TEXT}, {ALL}, or from {', '.join(known)}.")
    # A row that cannot be read has no other signal, so it is always told.
    return tuple(name for name in known if name in words or name == "unusable")


def model_signals(names: Sequence[str]) -> list[str]:
    """Those of some signals that need a model."""
    return [name for name in MODEL_THRESHOLDS if name in names]


def require_measured(quality: QualitySettings, measured: Collection[str]) -> None:
    """Checks that every threshold for a signal that needs a model has its signal.

    Args:
        quality: The thresholds.
        measured: Names of the signals that are measured.

    Raises:
        UserError: A threshold would be ignored.
    """
    for signal, thresholds in MODEL_THRESHOLDS.items():
        for threshold in thresholds:
            if getattr(quality.default, threshold) is not None and signal not in measured:
                raise UserError(
                    f"The threshold quality.default.{threshold} is set, but the signal {signal!r} is not measured: add "
                    "it to the signals that are measured, or take the threshold out.",
                    about="signals",
                )
