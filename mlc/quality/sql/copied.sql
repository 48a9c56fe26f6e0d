-- 1 - Levenshtein distance / longer length, over letters and digits without case and accents; the table `compared` is
-- filled in signals/copied.py.
-- Latin letters against none: the two have nothing in common, and nothing is compared.
CREATE TEMP MACRO nothing_in_common(a, b) AS
    NOT regexp_matches(b, '[\p{Latin}\pN]') AND regexp_matches(b, '\pL')
    AND NOT regexp_matches(a, '[^\PL\p{Latin}\p{Common}\p{Inherited}]') AND regexp_matches(a, '\p{Latin}');

SELECT row, similarity AS signal_copied
FROM compared
UNION ALL
SELECT row, 0.0::DOUBLE AS signal_copied
FROM texts
WHERE source IS NOT NULL AND translation IS NOT NULL
    AND (nothing_in_common(source, translation) OR nothing_in_common(translation, source))
