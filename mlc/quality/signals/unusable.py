"""Could the row be read at all?"""

from mlc.quality.signals.signal import Column, Direction, Signal

MEASURE = r"""
-- What makes a row unusable before anything is measured: found while reading, or no source at all.
SELECT
    row,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN source IS NULL THEN 'the source is missing'
    END AS signal_problem
FROM texts
"""

UNUSABLE = Signal(
    name="unusable",
    priority=10,
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
    measure=MEASURE,
    condition="signal_problem IS NOT NULL",
)
