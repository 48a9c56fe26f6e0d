-- Rows kept and dropped, by target language and first reason. A language that keeps nothing still has its row 'kept'.
WITH
counted AS (
    SELECT target_language, CASE WHEN keep THEN 'kept' ELSE reason END AS reason, count(*) AS rows
    FROM verdicts
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT DISTINCT target_language, 'kept' AS reason, 0 AS rows
    FROM verdicts
),
summed AS (
    SELECT target_language, reason, sum(rows)::BIGINT AS rows
    FROM counted
    GROUP BY ALL
)
SELECT
    target_language,
    reason,
    rows,
    (rows / sum(rows) OVER (PARTITION BY target_language))::DOUBLE AS share
FROM summed
ORDER BY target_language, reason <> 'kept', rows DESC, reason
