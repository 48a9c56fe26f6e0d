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
    fails="signal_sentences < limits.sentences_share",
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019); NLLB is known to drop sentences.",
)
