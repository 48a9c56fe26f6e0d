"""Is the translation about as long as translations into its language are?"""

from mlc.quality.signals.signal import Column, Deviations, Direction, Scope, Signal, Threshold

MEASURE = r"""
-- ln(characters of the translation / characters of the source). What is usual for a pair of languages, and how far
-- from it a row is, needs all rows: measuring/batch.sql. Where neither text has a letter, there is no language whose
-- lengths could be usual.
-- Names and numbers that a text in another script takes over letter for letter are as long as they were, and count on
-- neither side, up to half of the source.
CREATE TEMP MACRO carried_over(source, translation) AS
    length(
        array_to_string(
            list_filter(
                regexp_extract_all(translation, '[A-Z][A-Za-z0-9]+|[0-9]+')[:200], lambda name: contains(source, name)
            ),
            ''
        )
    );

WITH lengths AS (
    SELECT
        *,
        CASE
            WHEN source_script = target_script OR NOT regexp_matches(plain_translation, '[A-Z0-9]') THEN 0
            ELSE least(carried_over(plain_source, plain_translation), source_length / 2)
        END AS carried
    FROM texts
)
SELECT
    row,
    CASE
        WHEN source_length > 0 AND source_letters + translation_letters > 0
            THEN ln((greatest(translation_length - carried, 0) + 1) / (source_length - carried + 1))
    END::DOUBLE AS signal_length_log_ratio,
    source_length AS length_of_source
FROM lengths
"""

LENGTH = Signal(
    name="length",
    priority=120,
    columns=(
        Column(
            "signal_length_log_ratio",
            Direction.TWO_SIDED,
            "Natural logarithm of characters of the translation / characters of the source, spaces aside.",
        ),
        Column(
            "signal_length_z",
            Direction.TWO_SIDED,
            "Robust standard deviations from the usual ratio of the pair of languages; wider for short sources.",
        ),
    ),
    source="Gale and Church (1993), variance by length; OpusFilter LengthRatioFilter. Here by language pair: the "
    "shipped centre, or the median and the median absolute deviation of the rows themselves where they are enough.",
    scope=Scope.BATCH,
    measure=MEASURE,
    condition="abs(signal_length_z) > limits.length_z",
    thresholds=(
        Threshold(
            "length_z",
            Deviations,
            3.25,
            "Dropped beyond, either way: robust standard deviations from the usual length ratio.",
        ),
    ),
)
