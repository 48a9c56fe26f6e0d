"""Does the translation loop?"""

from typing import TYPE_CHECKING

from mlc.quality.signals.signal import Column, Direction, Level, Signal, Threshold

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def prepare(connection: "DuckDBPyConnection") -> None:
    """Fills the table ``repeated``, one row a pair that has words."""
    from mlc.text.repetitions import measure_repetitions

    measure_repetitions(connection)


MEASURE = r"""
-- Share of character n-grams that occurred before, and share of characters in the longest loop, each beyond
-- what the source has itself. Characters, so that it works without spaces; n is shorter where a character is a word.
-- The table `repeated`, one row a pair with both shares of both texts, is filled in measuring/repetitions.py.
SELECT
    row,
    -- greatest() passes over NULL, so what is not applicable has to be kept NULL by hand.
    CASE
        WHEN share_in_translation IS NOT NULL
            THEN greatest(share_in_translation - coalesce(share_in_source, 0), 0)
    END::DOUBLE AS signal_repetition_share,
    CASE
        WHEN loop_in_translation IS NOT NULL THEN greatest(loop_in_translation - coalesce(loop_in_source, 0), 0)
    END::DOUBLE AS signal_repetition_loop
FROM repeated
"""

REPETITION = Signal(
    name="repetition",
    priority=80,
    columns=(
        Column(
            "signal_repetition_share",
            Direction.HIGHER_IS_WORSE,
            "Share of character n-grams that occurred before (10 characters; 4 in Chinese and Japanese), "
            "beyond the source's.",
            0,
            1,
        ),
        Column(
            "signal_repetition_loop",
            Direction.HIGHER_IS_WORSE,
            "Share of the characters in the longest loop of three rounds or more, beyond the source's.",
            0,
            1,
        ),
    ),
    source="Rae et al. (2021), Gopher, repetition removal; OpusFilter RepetitionFilter. Here relative to the source.",
    prepare=prepare,
    measure=MEASURE,
    condition="""
        signal_repetition_share >= limits.repetition_share OR signal_repetition_loop >= limits.repetition_loop
    """,
    thresholds=(
        Threshold(
            "repetition_share",
            Level,
            0.25,
            "Dropped at or above: share of repeated n-grams beyond the source's, 0 to 1. Above 1 switches the rule "
            "off.",
        ),
        Threshold(
            "repetition_loop",
            Level,
            0.1,
            "Dropped at or above: share of characters in a loop beyond the source's, 0 to 1. Above 1 switches it off.",
        ),
    ),
)
