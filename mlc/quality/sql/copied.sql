-- 1 - Levenshtein distance / longer length, over letters and digits without case and accents.
-- DuckDB counts the distance in bytes. The characters of each pair are therefore mapped to ASCII first; where
-- a pair has more than 127 different characters (Chinese, Japanese) the bytes stay.
-- Past 600 characters the start and the length decide: the distance is quadratic.
WITH
normal AS (
    SELECT
        row,
        regexp_replace(strip_accents(lower(source)), '[^\pL\pN]', '', 'g') AS a,
        regexp_replace(strip_accents(lower(translation)), '[^\pL\pN]', '', 'g') AS b
    FROM texts
),
alphabets AS (
    SELECT
        row, a, b, left(a, 600) AS a_start, left(b, 600) AS b_start,
        list_distinct(string_split(left(a, 600) || left(b, 600), '')) AS characters
    FROM normal
),
mapped AS (
    SELECT
        row, a, b,
        CASE WHEN len(characters) <= 127 THEN translate(a_start, array_to_string(characters, ''), ascii)
            ELSE a_start END AS a_start,
        CASE WHEN len(characters) <= 127 THEN translate(b_start, array_to_string(characters, ''), ascii)
            ELSE b_start END AS b_start
    FROM alphabets,
        (SELECT array_to_string(list_transform(range(1, 128), lambda code: chr(code::INTEGER)), '') AS ascii)
)
SELECT
    row,
    CASE
        WHEN a = '' OR b = '' THEN NULL
        WHEN a = b THEN 1.0::DOUBLE
        ELSE (1.0 - levenshtein(a_start, b_start) / greatest(strlen(a_start), strlen(b_start)))
            * least(length(a), length(b), 600) / least(greatest(length(a), length(b)), 600)
    END::DOUBLE AS signal_copied
FROM mapped
