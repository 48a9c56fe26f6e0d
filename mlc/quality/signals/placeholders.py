"""Did names in braces, tags, format marks, addresses survive?"""

from mlc.quality.signals.signal import Column, Direction, Share, Signal, Threshold

MEASURE = r"""
-- Share of the source's placeholders that the translation has, letter for letter; NULL where the source has none.
WITH found AS (
    SELECT row, translation, placeholders(source) AS wanted, placeholders(translation) AS got
    FROM texts
)
SELECT
    row,
    CASE
        WHEN translation IS NOT NULL THEN shared_members(wanted, got) / nullif(len(wanted), 0)
    END::DOUBLE AS signal_placeholders
FROM found
"""

PLACEHOLDERS = Signal(
    name="placeholders",
    priority=100,
    columns=(
        Column(
            "signal_placeholders",
            Direction.HIGHER_IS_BETTER,
            "Share of the source's placeholders, tags, URLs and e-mail addresses that the translation has.",
            0,
            1,
        ),
    ),
    source="Placeholder checks of localisation tools (Okapi CheckMate, Translate Toolkit's pofilter).",
    measure=MEASURE,
    condition="signal_placeholders < limits.placeholders_share",
    thresholds=(
        Threshold(
            "placeholders_share",
            Share,
            1.0,
            "Dropped below: share of placeholders kept, 0 to 1. 0 switches the rule off.",
        ),
    ),
)
