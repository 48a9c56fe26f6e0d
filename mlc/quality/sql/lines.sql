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
