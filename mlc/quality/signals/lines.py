"""Is the structure of lines kept?"""

from mlc.quality.signals.signal import Column, Direction, Share, Signal, Threshold

MEASURE = r"""
-- Lines that are not blank: the smaller number over the larger one. NULL where both texts are one line.
CREATE TEMP MACRO line_count(content) AS
    CASE
        WHEN regexp_matches(content, '[\n\r\x{2028}\x{2029}]')
            THEN len(regexp_extract_all(content, '[^\n\r\x{2028}\x{2029}]*[^\s\p{Z}\p{C}][^\n\r\x{2028}\x{2029}]*'))
        ELSE 1
    END;

WITH counted AS (
    SELECT row, line_count(source) AS before, line_count(translation) AS after
    FROM texts
    WHERE source IS NOT NULL AND translation IS NOT NULL
)
SELECT row, least(before, after) / greatest(before, after)::DOUBLE AS signal_lines
FROM counted
WHERE greatest(before, after) > 1
"""

LINES = Signal(
    name="lines",
    priority=130,
    columns=(
        Column(
            "signal_lines",
            Direction.HIGHER_IS_BETTER,
            "Lines that are not blank: the smaller number of the two texts over the larger one.",
            0,
            1,
        ),
    ),
    source="Line-break checks of localisation tools (Translate Toolkit's pofilter, newlines); here as a share.",
    measure=MEASURE,
    condition="signal_lines < limits.lines_share",
    thresholds=(
        Threshold(
            "lines_share",
            Share,
            0.6,
            "Dropped below: smaller number of lines over the larger one, 0 to 1. 0 switches the rule off.",
        ),
    ),
)
