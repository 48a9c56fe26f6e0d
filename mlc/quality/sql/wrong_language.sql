-- The identifier's probabilities, from signals/language.py, which fills `identified` once a distinct text.
SELECT
    texts.row,
    identified.predicted AS signal_language_predicted,
    identified.expected AS signal_language_expected,
    identified.other AS signal_language_other,
    identified.untranslated AS signal_language_source
FROM texts
LEFT JOIN identified USING (plain_translation, source_language, target_language)
