-- What is usual for each pair of languages: centre and spread of ln(characters of the translation / of the source).
-- Shipped: the difference of the centres of the two languages, each measured against English (length_ratios.csv).
-- Measured: median and 1.4826 * median absolute deviation of the rows of the table `measured` that are no copies,
-- where there are at least `batch_rows`. Half of the rows may be bad and the median still stands; in case more are, it
-- moves no further from the shipped centre than two shipped spreads, and the spread at most doubles.
WITH
ratios AS (
    SELECT DISTINCT ON (languages.code)
        languages.code, length_ratios.centre, length_ratios.spread
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
        sqrt(target_ratio.spread ** 2 + source_ratio.spread ** 2) AS spread
    FROM pairs_of_languages
    JOIN ratios AS source_ratio ON source_ratio.code = source_code
    JOIN ratios AS target_ratio ON target_ratio.code = target_code
),
usable AS (
    SELECT source_code, target_code, signal_length_log_ratio AS ratio
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
    SELECT source_code, target_code, any_value(centre) AS centre, 1.4826 * median(abs(ratio - centre)) AS spread
    FROM usable
    JOIN medians USING (source_code, target_code)
    GROUP BY ALL
)
SELECT
    source_code,
    target_code,
    CASE WHEN estimated.centre IS NULL THEN shipped.centre
        ELSE least(
            greatest(estimated.centre, shipped.centre - 2 * shipped.spread), shipped.centre + 2 * shipped.spread
        ) END AS centre,
    CASE WHEN estimated.centre IS NULL THEN shipped.spread
        ELSE least(estimated.spread, 2 * shipped.spread) END AS spread
FROM shipped
LEFT JOIN estimated USING (source_code, target_code)
ORDER BY ALL
