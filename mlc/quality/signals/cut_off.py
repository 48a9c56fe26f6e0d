"""Did the translation end by itself?"""

from mlc.quality.signals.signal import Column, Direction, Signal

CUT_OFF = Signal(
    name="cut_off",
    columns=(
        Column(
            "signal_finished",
            Direction.HIGHER_IS_BETTER,
            "The translator ended by itself, as it reports.",
            0,
            1,
            "BOOLEAN",
        ),
        Column(
            "signal_ending_kept",
            Direction.HIGHER_IS_BETTER,
            "The translation ends with punctuation, as the source does.",
            0,
            1,
            "BOOLEAN",
        ),
    ),
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019); here only the end, and only with the length.",
    uses=("length",),
)
