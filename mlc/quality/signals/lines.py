"""Is the structure of lines kept?"""

from mlc.quality.signals.signal import Column, Direction, Signal

LINES = Signal(
    name="lines",
    columns=(
        Column(
            "signal_lines",
            Direction.HIGHER_IS_BETTER,
            "Lines that are not blank: the smaller number of the two texts over the larger one.",
            0,
            1,
        ),
    ),
    source="Line-break checks of localisation tools (Translate Toolkit's pofilter, newlines); here as a share.",
)
