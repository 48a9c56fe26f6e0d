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
    # A name, a loan word or a formula is rightly the same in both languages.
    fails="signal_copied >= limits.copied_similarity AND signal_source_letters >= limits.copied_min_letters",
    source="OpusFilter SimilarityFilter (Levenshtein, 1966).",
)
