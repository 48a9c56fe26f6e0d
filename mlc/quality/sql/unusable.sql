-- What makes a row unusable before anything is measured: found while reading, or no source at all.
SELECT
    row,
    CASE
        WHEN problem IS NOT NULL THEN problem
        WHEN source IS NULL THEN 'the source is missing'
    END AS signal_problem
FROM texts
