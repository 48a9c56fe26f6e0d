-- Verdicts from stored signals alone. The rules, one a signal in order of priority, are put in by decide().
WITH judged AS (
    SELECT
        signals.row,
        list_filter([/* rules */], lambda reason: reason IS NOT NULL) AS reasons
    FROM signals
    LEFT JOIN limits USING (target_language)
)
SELECT
    len(reasons) = 0 AS keep,
    reasons[1] AS reason,
    reasons
FROM judged
ORDER BY row
