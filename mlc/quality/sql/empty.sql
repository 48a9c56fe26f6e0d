-- Nothing to read is left: the translation is NULL or blank, or bare punctuation although the source has words.
SELECT
    row,
    CASE
        WHEN problem IS NOT NULL THEN NULL
        WHEN translation IS NULL THEN TRUE
        ELSE regexp_matches(source, '[\pL\pN]') AND NOT regexp_matches(translation, '[\pL\pN]')
    END AS signal_empty,
    source_letters AS signal_source_letters,
    translation_letters AS signal_translation_letters
FROM texts
