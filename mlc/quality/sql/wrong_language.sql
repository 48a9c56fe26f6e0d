-- The identifier's probabilities, from signals/language.py, which fills `identified` for rows with enough letters.
SELECT
    row,
    predicted AS signal_language_predicted,
    expected AS signal_language_expected,
    other AS signal_language_other,
    untranslated AS signal_language_source
FROM identified
