-- What is compared to find translations that several sources share; how many, needs all rows: sql/collapse.sql.
-- Without capitals, spaces and the most frequent punctuation: a source that only ends in another way is no other one.
CREATE TEMP MACRO comparison_key(content) AS
    CASE
        WHEN content IS NOT NULL
            THEN hash(
                replace(replace(replace(replace(replace(lower(content), ' ', ''), ',', ''), '.', ''), '!', ''), '?', '')
            )
    END;

SELECT row, comparison_key(tidy_source) AS source_key, comparison_key(tidy_translation) AS translation_key
FROM texts
