-- 1 - Levenshtein distance / longer length, over letters and digits without case and accents.
-- DuckDB counts the distance in bytes. The characters of a pair that is not ASCII are therefore mapped to ASCII
-- first; where it has more than 127 different characters (Chinese, Japanese) the bytes stay.
-- Past 600 characters the start and the length decide: the distance is quadratic.
-- Latin letters against none: the two have nothing in common, and nothing is compared.
CREATE TEMP MACRO nothing_in_common(a, b) AS
    NOT regexp_matches(b, '[\p{Latin}\pN]') AND regexp_matches(b, '\pL')
    AND NOT regexp_matches(a, '[^\PL\p{Latin}\p{Common}\p{Inherited}]') AND regexp_matches(a, '\p{Latin}');

WITH
told_apart AS MATERIALIZED (
    SELECT
        row, source, translation,
        nothing_in_common(source, translation) OR nothing_in_common(translation, source) AS apart
    FROM texts
    WHERE source IS NOT NULL AND translation IS NOT NULL
),
normal AS MATERIALIZED (
    SELECT row, bare(source) AS a, bare(translation) AS b FROM told_apart WHERE NOT apart
),
starts AS MATERIALIZED (
    SELECT row, a, b, left(a, 600) AS a_start, left(b, 600) AS b_start FROM normal WHERE a <> '' AND b <> ''
),
mapped AS MATERIALIZED (
    SELECT
        row, a, b, a_start, b_start,
        CASE
            WHEN strlen(a_start) = length(a_start) AND strlen(b_start) = length(b_start) THEN NULL
            ELSE list_distinct(string_split(a_start || b_start, ''))
        END AS characters
    FROM starts
),
ascii AS (
    SELECT array_to_string(list_transform(range(1, 128), lambda code: chr(code::INTEGER)), '') AS letters
),
comparable AS (
    SELECT
        row, a, b,
        CASE WHEN len(characters) <= 127 THEN translate(a_start, array_to_string(characters, ''), letters)
            ELSE a_start END AS a_start,
        CASE WHEN len(characters) <= 127 THEN translate(b_start, array_to_string(characters, ''), letters)
            ELSE b_start END AS b_start
    FROM mapped, ascii
)
SELECT
    row,
    CASE
        WHEN a = b THEN 1.0::DOUBLE
        ELSE (1.0 - levenshtein(a_start, b_start) / greatest(strlen(a_start), strlen(b_start)))
            * least(length(a), length(b), 600) / least(greatest(length(a), length(b)), 600)
    END::DOUBLE AS signal_copied
FROM comparable
UNION ALL
SELECT row, 0.0::DOUBLE AS signal_copied
FROM told_apart
WHERE apart
