-- Share of character n-grams that occurred before, and share of characters in the longest loop, each beyond
-- what the source has itself. Characters, so that it works without spaces; n is shorter where a character is a word.
CREATE TEMP MACRO ngram_length(script) AS CASE WHEN script IN ('Hans', 'Hant', 'Jpan') THEN 4 ELSE 10 END;

CREATE TEMP MACRO tidy(content) AS trim(regexp_replace(lower(content), '[\s\p{Z}\p{C}]+', ' ', 'g'));

WITH
sides AS (
    SELECT row, 'translation' AS side, tidy(translation) AS content, ngram_length(target_script) AS n FROM texts
    UNION ALL BY NAME
    SELECT row, 'source' AS side, tidy(source) AS content, ngram_length(source_script) AS n FROM texts
),
ngrams AS (
    SELECT
        row,
        side,
        list_transform(range(1, length(content) - n + 2), lambda start: substring(content, start, n)) AS grams
    FROM sides
    WHERE length(content) >= n
),
shares AS (
    SELECT
        row,
        max(1.0 - len(list_distinct(grams)) / len(grams)) FILTER (side = 'translation') AS in_translation,
        max(1.0 - len(list_distinct(grams)) / len(grams)) FILTER (side = 'source') AS in_source
    FROM ngrams
    GROUP BY row
)
SELECT
    row,
    -- greatest() passes over NULL, so what is not applicable has to be kept NULL by hand.
    CASE
        WHEN shares.in_translation IS NOT NULL THEN greatest(shares.in_translation - coalesce(shares.in_source, 0), 0)
    END::DOUBLE AS signal_repetition_share,
    CASE
        WHEN loops.in_translation IS NOT NULL THEN greatest(loops.in_translation - loops.in_source, 0)
    END::DOUBLE AS signal_repetition_loop
FROM loops
LEFT JOIN shares USING (row)
