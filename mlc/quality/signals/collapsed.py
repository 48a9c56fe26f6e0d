"""Do different sources have one and the same translation?"""

from mlc.quality.signals.signal import Column, Direction, Scope, Signal

COLLAPSED = Signal(
    name="collapsed",
    columns=(
        Column(
            "signal_collapsed_sources",
            Direction.HIGHER_IS_WORSE,
            "Different sources among all rows that have this translation into this language, compared without "
            "capitals, spaces and punctuation; 1 where nothing collapses.",
            1,
            kind="BIGINT",
        ),
    ),
    source="Khayrallah and Koehn (2018), noise in parallel corpora; Lee et al. (2018), hallucinations: a translator "
    "that has lost its input falls back on the same sentences. Counted as OpusFilter's duplicate filter counts, but "
    "on one side and within a target language.",
    scope=Scope.BATCH,
    uses=("empty",),
)
