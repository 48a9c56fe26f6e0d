-- Robust z-score of ln(characters of the translation / characters of the source).
-- The centre of a pair is the difference of the centres of its two languages, each measured against English
-- (length_ratios.csv). The variance grows as the source gets shorter: one word more or less is then a large share.
CREATE TEMP MACRO visible(content) AS regexp_replace(content, '[\s\p{Z}\p{C}]+', '', 'g');

WITH
ratios AS (
    SELECT DISTINCT ON (languages.code)
        languages.code, length_ratios.centre, length_ratios.spread
    FROM languages
    JOIN length_ratios ON length_ratios.key IN (languages.code, languages.script, '*')
    -- The most specific row: language before script before the default.
    ORDER BY languages.code, length_ratios.key = languages.code DESC, length_ratios.key = languages.script DESC
),
measured AS (
    SELECT
        texts.row,
        length(visible(source)) AS source_length,
        ln((length(visible(translation)) + 1) / (source_length + 1)) AS ratio,
        target_ratio.centre - source_ratio.centre AS centre,
        target_ratio.spread ** 2 + source_ratio.spread ** 2 + 1.0 / greatest(source_length, 1) AS variance
    FROM texts
    JOIN ratios AS source_ratio ON source_ratio.code = texts.source_language
    JOIN ratios AS target_ratio ON target_ratio.code = texts.target_language
)
SELECT
    row,
    CASE WHEN source_length > 0 THEN ratio END::DOUBLE AS signal_length_log_ratio,
    CASE WHEN source_length > 0 THEN (ratio - centre) / sqrt(variance) END::DOUBLE AS signal_length_z
FROM measured
