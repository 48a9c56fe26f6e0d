"""Is the translation the source, untranslated?"""

from mlc.quality.signals.signal import Column, Direction, Signal

COPIED = Signal(
    name="copied",
    columns=(
        Column(
            "signal_copied",
            Direction.HIGHER_IS_WORSE,
            "Similarity of source and translation by edit distance, without case, accents and punctuation.",
            0,
            1,
        ),
    ),
    source="OpusFilter SimilarityFilter (Levenshtein, 1966).",
    uses=("empty",),
)
