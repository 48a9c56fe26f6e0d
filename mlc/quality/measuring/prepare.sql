-- What every signal reads: table `texts`, one row a pair.
-- A blank translation is NULL from here on, so that every other signal of such a row is NULL (not applicable).
-- So are both texts of a row with a problem.
CREATE OR REPLACE TEMP TABLE texts AS
WITH
trimmed AS (
    SELECT
        pairs.row,
        CASE WHEN problem IS NULL THEN nfc_normalize(pairs.source) END AS source,
        CASE
            WHEN problem IS NOT NULL OR regexp_full_match(pairs.translation, invisible_pattern()) THEN NULL
            ELSE nfc_normalize(pairs.translation)
        END AS translation,
        pairs.problem,
        pairs.source_code,
        pairs.target_code,
        pairs.finished,
        pairs.logprob,
        source_table.script AS source_script,
        target_table.script AS target_script
    FROM pairs
    LEFT JOIN languages AS source_table ON source_table.code = pairs.source_code
    LEFT JOIN languages AS target_table ON target_table.code = pairs.target_code
),
plain AS (
    SELECT
        *,
        tidy(source) AS tidy_source,
        tidy(translation) AS tidy_translation,
        without_placeholders(source) AS plain_source,
        without_placeholders(translation) AS plain_translation
    FROM trimmed
)
SELECT
    *,
    length(letters(plain_source))::BIGINT AS source_letters,
    letters(plain_translation) AS letters_of_translation,
    length(letters_of_translation)::BIGINT AS translation_letters,
    -- Characters that can be seen.
    length(replace(tidy_source, ' ', ''))::BIGINT AS source_length,
    length(replace(tidy_translation, ' ', ''))::BIGINT AS translation_length
FROM plain
ORDER BY row;
