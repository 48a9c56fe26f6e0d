-- Nothing to read is left: the translation is NULL or blank, or bare punctuation although the source has words.
SELECT
    row,
    CASE
        WHEN translation IS NULL THEN TRUE
        ELSE regexp_matches(source, '[\pL\pN]') AND NOT regexp_matches(translation, '[\pL\pN]')
    END AS signal_empty,
    length(source_letters)::BIGINT AS signal_source_letters,
    length(translation_letters)::BIGINT AS signal_translation_letters
FROM texts
