-- `signal_finished` is what the translator reported. The rest is evidence in the text that the end is missing.
-- Scripts without a full stop (Thai, Lao, Tibetan) have no `signal_ending_kept`.
WITH endings AS (
    SELECT
        row,
        finished,
        target_script,
        regexp_matches(source, '[.!?…‥。！？．｡।॥؟۔።፧။។᱾᱿։՞][\pP\s\p{Z}\p{C}]*$') AS source_ends,
        -- Any closing punctuation counts: translators swap a full stop for a quotation mark or a colon.
        regexp_matches(translation, '\pP[\s\p{Z}\p{C}]*$') AS translation_ends
    FROM texts
)
SELECT
    row,
    finished AS signal_finished,
    CASE
        WHEN target_script IN ('Thai', 'Laoo', 'Tibt') OR NOT source_ends THEN NULL
        ELSE translation_ends
    END AS signal_ending_kept
FROM endings
