-- Rows whose translation other sources have too: table `collapsed`, in the order of the rows, from the table
-- `measured` with the keys of signals/collapsed.py. Steps of grouping, because all can leave the memory for the disk.
-- A source that has most of its words in common with another one says the same and is no other one. Of a translation
-- that more than 50 sources share that is not asked: so many ways to say one thing there are not.
CREATE OR REPLACE TEMP TABLE collapsed AS
WITH
distinct_pairs AS (
    SELECT target_code, translation_key, source_key, any_value(source_words) AS words
    FROM measured
    WHERE translation_key IS NOT NULL
    GROUP BY ALL
),
shared AS (
    SELECT target_code, translation_key, count(*) AS sources
    FROM distinct_pairs
    GROUP BY ALL
    HAVING sources > 1
),
few AS (
    SELECT target_code, translation_key, source_key, words
    FROM distinct_pairs
    JOIN shared USING (target_code, translation_key)
    WHERE sources <= 50 AND words > 0
),
said_again AS (
    SELECT target_code, translation_key, count(DISTINCT later.source_key) AS again
    FROM few AS later
    JOIN few AS earlier USING (target_code, translation_key)
    WHERE earlier.source_key < later.source_key
        AND bit_count(earlier.words & later.words) >= 0.6 * least(bit_count(earlier.words), bit_count(later.words))
    GROUP BY ALL
)
SELECT row, sources - coalesce(again, 0) AS sources
FROM measured
JOIN shared USING (target_code, translation_key)
LEFT JOIN said_again USING (target_code, translation_key)
ORDER BY row;
