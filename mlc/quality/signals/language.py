"""Is the translation in its language? Asked of py3langid."""

from typing import TYPE_CHECKING

from mlc.quality.signals.signal import Column, Count, Direction, Level, Signal, Threshold

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def prepare(connection: "DuckDBPyConnection") -> None:
    """Fills the table ``identified``, one row a pair with enough letters."""
    from mlc.text.identification import identify_rows

    identify_rows(connection)


MEASURE = r"""
-- The identifier's probabilities, from measuring/identification.py, which fills `identified` for rows with enough
-- letters.
SELECT
    row,
    predicted AS signal_language_predicted,
    expected AS signal_language_expected,
    other AS signal_language_other,
    untranslated AS signal_language_source
FROM identified
"""

LANGUAGE = Signal(
    name="wrong_language",
    priority=60,
    columns=(
        Column("signal_language_predicted", Direction.CONTEXT, "Label of the most probable language.", kind="VARCHAR"),
        Column(
            "signal_language_expected",
            Direction.HIGHER_IS_BETTER,
            "Probability of the target language and those taken for it.",
            0,
            1,
        ),
        Column(
            "signal_language_other",
            Direction.HIGHER_IS_WORSE,
            "Highest probability of a language that is not taken for the target.",
            0,
            1,
        ),
        Column("signal_language_source", Direction.HIGHER_IS_WORSE, "Probability of the source language.", 0, 1),
    ),
    source="Lui and Baldwin (2012), langid.py, in its fork py3langid; OpusFilter LangidFilter.",
    prepare=prepare,
    uses=("empty",),
    measure=MEASURE,
    condition="""
        signal_translation_letters >= limits.language_min_letters
        AND (
            signal_language_other >= limits.language_other OR signal_language_source >= limits.language_source
        )
    """,
    thresholds=(
        Threshold(
            "language_other",
            Level,
            0.6,
            "Dropped at or above: probability of another language, 0 to 1. Above 1 switches the rule off.",
        ),
        Threshold(
            "language_source",
            Level,
            0.6,
            "Dropped at or above: probability that the text is still in the source language, 0 to 1. Above 1 is off.",
        ),
        Threshold(
            "language_min_letters",
            Count,
            20,
            "Both language rules apply from this many letters in the translation.",
        ),
    ),
)
