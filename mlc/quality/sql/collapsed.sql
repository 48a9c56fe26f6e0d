-- What is compared to find translations that several sources share; how many, needs all rows: sql/collapse.sql.
-- Letters and digits count, capitals do not.
SELECT
    row,
    CASE WHEN translation IS NOT NULL THEN hash(lower(tidy_source)) END AS source_key,
    CASE WHEN translation_letters > 0 THEN hash(lower(letters_of_translation)) END AS translation_key
FROM texts
