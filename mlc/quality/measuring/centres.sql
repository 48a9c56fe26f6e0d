-- What is usual for each pair of languages: centre and spread of ln(characters of the translation / of the source), and
-- `ending_habit`, the share of translations that end with a mark as their source does.
-- The spread is what is left of the deviation when the part of short texts (`noise`) is taken off, at least 0.08.
-- The habit is that of translations that are at least as long as usual, for a cut one is shorter; of 20 of them or more.
-- Shipped: the difference of the centres of the two languages, each measured against English (length_ratios.csv).
-- Measured: median and 1.4826 * median absolute deviation of the rows of the table `measured` that are no copies,
-- where there are at least `batch_rows`. Half of the rows may be bad and the median still stands; in case more are, it
-- moves no further from the shipped centre than two shipped spreads, and the spread at most doubles.
WITH
ratios AS (
    SELECT DISTINCT ON (languages.code)
        languages.code,
        length_ratios.centre,
        length_ratios.spread,
        -- A guess says nothing of the texts that it would hold for.
        CASE WHEN length_ratios.length IS NULL THEN length_ratios.spread
            ELSE own_spread(length_ratios.spread, noise(length_ratios.length)) END AS own
    FROM languages
    JOIN length_ratios ON length_ratios.key IN (languages.code, languages.script, '*')
    -- The most specific row: language before script before the default.
    ORDER BY languages.code, length_ratios.key = languages.code DESC, length_ratios.key = languages.script DESC
),
pairs_of_languages AS (
    SELECT DISTINCT source_code, target_code FROM measured WHERE source_code IS NOT NULL AND target_code IS NOT NULL
),
shipped AS (
    SELECT
        source_code,
        target_code,
        target_ratio.centre - source_ratio.centre AS centre,
        sqrt(target_ratio.spread ** 2 + source_ratio.spread ** 2) AS spread,
        sqrt(target_ratio.own ** 2 + source_ratio.own ** 2) AS own
    FROM pairs_of_languages
    JOIN ratios AS source_ratio ON source_ratio.code = source_code
    JOIN ratios AS target_ratio ON target_ratio.code = target_code
),
usable AS (
    SELECT source_code, target_code, signal_length_log_ratio AS ratio, noise(length_of_source) AS noise
    FROM measured
    WHERE signal_length_log_ratio IS NOT NULL AND coalesce(signal_copied < 0.85, TRUE)
),
medians AS (
    SELECT source_code, target_code, median(ratio) AS centre
    FROM usable
    GROUP BY ALL
    HAVING count(*) >= getvariable('batch_rows')
),
estimated AS (
    SELECT
        source_code,
        target_code,
        any_value(centre) AS centre,
        own_spread(1.4826 * median(abs(ratio - centre)), median(noise)) AS own
    FROM usable
    JOIN medians USING (source_code, target_code)
    GROUP BY ALL
),
usual AS (
    SELECT
        source_code,
        target_code,
        CASE WHEN estimated.centre IS NULL THEN shipped.centre
            ELSE least(
                greatest(estimated.centre, shipped.centre - 2 * shipped.spread), shipped.centre + 2 * shipped.spread
            ) END AS centre,
        CASE WHEN estimated.centre IS NULL THEN shipped.own
            ELSE least(estimated.own, 2 * shipped.spread) END AS spread
    FROM shipped
    LEFT JOIN estimated USING (source_code, target_code)
),
habits AS (
    SELECT source_code, target_code, avg(signal_ending_kept::INTEGER) AS ending_habit
    FROM measured
    JOIN usual USING (source_code, target_code)
    WHERE signal_ending_kept IS NOT NULL AND signal_length_log_ratio >= centre
    GROUP BY ALL
    HAVING count(*) >= 20
)
SELECT source_code, target_code, centre, spread, ending_habit
FROM usual
LEFT JOIN habits USING (source_code, target_code)
ORDER BY ALL
