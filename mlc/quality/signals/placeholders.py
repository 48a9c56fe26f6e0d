"""Did names in braces, tags, format marks, addresses survive?"""

from mlc.quality.signals.signal import Column, Direction, Signal

PLACEHOLDERS = Signal(
    name="placeholders",
    columns=(
        Column(
            "signal_placeholders",
            Direction.HIGHER_IS_BETTER,
            "Share of the source's placeholders, tags, URLs and e-mail addresses that the translation has.",
            0,
            1,
        ),
    ),
    source="Placeholder checks of localisation tools (Okapi CheckMate, Translate Toolkit's pofilter).",
)
