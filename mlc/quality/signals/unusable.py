"""Could the row be read at all?"""

from mlc.quality.signals.signal import Column, Direction, Signal

UNUSABLE = Signal(
    name="unusable",
    columns=(
        Column(
            "signal_problem",
            Direction.CONTEXT,
            "What is wrong with the row itself, in a sentence: it cannot be read, has no source, or names a language "
            "that does not exist. Every other signal of such a row is NULL.",
            kind="VARCHAR",
        ),
    ),
    source="Ours: a corpus of millions of rows has a few broken ones, which are no reason to stop and none to hide.",
)
