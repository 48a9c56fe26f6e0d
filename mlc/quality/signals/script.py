"""Is the translation written in the script of its language?"""

from mlc.quality.signals.signal import Column, Direction, Signal

SCRIPT = Signal(
    name="wrong_script",
    columns=(
        Column(
            "signal_script",
            Direction.HIGHER_IS_BETTER,
            "Share of the letters that are in the script of the target language; acronyms and placeholders aside.",
            0,
            1,
        ),
    ),
    source="OpusFilter CharacterScoreFilter; here with scripts by ISO 15924 from the language table.",
)
