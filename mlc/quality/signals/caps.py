"""Does the translation shout?"""

from mlc.quality.signals.signal import Column, Count, Direction, Level, Signal, Threshold

MEASURE = r"""
-- Share of the letters that stand in words of capitals alone, beyond the source's share. Scripts without case have
-- such words only where Latin letters are mixed in.
CREATE TEMP MACRO caps_share(content, letter_count) AS
    CASE
        WHEN letter_count = 0 OR content IS NULL THEN NULL
        WHEN NOT regexp_matches(content, '\p{Lu}{2}') THEN 0.0
        ELSE least(
            length(array_to_string(regexp_extract_all(content, '(?:^|\PL)(\p{Lu}{2,})(?:\p{Lu}*)', 1), ''))
            / letter_count,
            1.0
        )
    END;

WITH shares AS (
    SELECT
        row,
        caps_share(plain_source, source_letters) AS before,
        caps_share(plain_translation, translation_letters) AS after
    FROM texts
)
SELECT row, CASE WHEN after IS NOT NULL THEN greatest(after - coalesce(before, 0), 0) END::DOUBLE AS signal_caps
FROM shares
"""

CAPS = Signal(
    name="caps",
    priority=70,
    columns=(
        Column(
            "signal_caps",
            Direction.HIGHER_IS_WORSE,
            "Share of the letters that stand in words of capitals alone, beyond the source's share.",
            0,
            1,
        ),
    ),
    source="Raffel et al. (2020) and Rae et al. (2021) drop text that is not written as sentences are; capital noise "
    "also passes for acronyms, which the script of a text is not judged by.",
    uses=("empty",),
    measure=MEASURE,
    condition="signal_caps >= limits.caps_share AND signal_translation_letters >= limits.caps_min_letters",
    thresholds=(
        Threshold(
            "caps_share",
            Level,
            0.5,
            "Dropped at or above: share of letters in words of capitals beyond the source's, 0 to 1. Above 1 is off.",
        ),
        Threshold("caps_min_letters", Count, 12, "The caps rule applies from this many letters in the translation."),
    ),
)
