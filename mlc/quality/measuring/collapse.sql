-- Rows whose translation other sources have too: table `collapsed`, in the order of the rows, from the table
-- `measured` with the keys of signals/collapsed.py. Two steps of grouping, because both can leave the memory for the disk.
CREATE OR REPLACE TEMP TABLE collapsed AS
WITH
distinct_pairs AS (
    SELECT DISTINCT target_code, translation_key, source_key FROM measured WHERE translation_key IS NOT NULL
),
shared AS (
    SELECT target_code, translation_key, count(*) AS sources
    FROM distinct_pairs
    GROUP BY ALL
    HAVING sources > 1
)
SELECT row, sources
FROM measured
JOIN shared USING (target_code, translation_key)
ORDER BY row;
