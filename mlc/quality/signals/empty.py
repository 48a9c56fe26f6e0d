"""Is there a translation at all?"""

from mlc.quality.signals.signal import Column, Direction, Signal

MEASURE = r"""
-- Nothing to read is left: the translation is NULL or blank, or bare punctuation although the source has words. A
-- source of which nothing can be seen has nothing to lose.
SELECT
    row,
    CASE
        WHEN problem IS NOT NULL THEN NULL
        WHEN translation IS NULL THEN NOT regexp_full_match(source, invisible_pattern())
        ELSE regexp_matches(source, '[\pL\pN]') AND NOT regexp_matches(translation, '[\pL\pN]')
    END AS signal_empty,
    source_letters AS signal_source_letters,
    translation_letters AS signal_translation_letters
FROM texts
"""

EMPTY = Signal(
    name="empty",
    priority=20,
    columns=(
        Column("signal_empty", Direction.HIGHER_IS_WORSE, "The translation has nothing to read.", 0, 1, "BOOLEAN"),
        Column(
            "signal_source_letters", Direction.CONTEXT, "Letters in the source, placeholders aside.", 0, kind="BIGINT"
        ),
        Column(
            "signal_translation_letters",
            Direction.CONTEXT,
            "Letters in the translation, placeholders aside.",
            0,
            kind="BIGINT",
        ),
    ),
    source="OpusFilter LengthFilter with a minimum of one; here characters that cannot be seen count as nothing.",
    measure=MEASURE,
    condition="signal_empty",
)
