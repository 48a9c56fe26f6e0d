-- The signals that need all rows, for the rows of the table `chunk`. `centres` and `collapsed` are from centres.sql
-- and collapse.sql. The variance grows as the source gets shorter: one word more or less is then a large share.
-- Where complete translations lack the mark at their end as well, its absence is no sign of a cut.
SELECT
    ((signal_length_log_ratio - centre) / sqrt(spread ** 2 + noise(length_of_source)))::DOUBLE
        AS signal_length_z,
    CASE WHEN coalesce(ending_habit, 1.0) >= 0.9 THEN signal_ending_kept END AS signal_ending_kept,
    CASE WHEN translation_key IS NOT NULL THEN coalesce(sources, 1) END::BIGINT AS signal_collapsed_sources
FROM chunk
LEFT JOIN centres USING (source_code, target_code)
LEFT JOIN collapsed USING (row)
ORDER BY chunk.row
