"""Are sentences missing?"""

from mlc.quality.signals.signal import Column, Direction, Signal

SENTENCES = Signal(
    name="sentences",
    columns=(
        Column(
            "signal_sentences",
            Direction.HIGHER_IS_BETTER,
            "Share of the source's sentences that are left, by terminal punctuation.",
            0,
            1,
        ),
    ),
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019); NLLB is known to drop sentences.",
    uses=("length",),
)
