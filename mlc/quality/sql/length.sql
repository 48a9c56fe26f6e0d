-- ln(characters of the translation / characters of the source). What is usual for a pair of languages, and how far
-- from it a row is, needs all rows: sql/length_z.sql.
SELECT
    row,
    CASE WHEN source_length > 0 THEN ln((translation_length + 1) / (source_length + 1)) END::DOUBLE
        AS signal_length_log_ratio,
    source_length AS length_of_source
FROM texts
