-- Verdicts from stored signals alone. The rules stand in order of priority: the first one that fails is the reason.
-- `limits` holds the thresholds of each pair of languages (see Thresholds in settings.py). A comparison with NULL is
-- NULL, so a signal that is not applicable and a threshold that is not set drop nothing. `$rules` are the rules that
-- were asked for.
WITH judged AS (
    SELECT
        signals.row,
        signals.quality,
        list_filter(
            [
                CASE WHEN signal_problem IS NOT NULL THEN 'unusable' END,
                CASE WHEN signal_empty THEN 'empty' END,
                CASE WHEN signal_garbled > limits.garbled_count THEN 'garbled' END,
                -- A name, a loan word or a formula is rightly the same in both languages.
                CASE
                    WHEN signal_copied >= limits.copied_similarity
                        AND signal_source_letters >= limits.copied_min_letters THEN 'copied'
                END,
                CASE WHEN signal_script < limits.script_share THEN 'wrong_script' END,
                CASE
                    WHEN signal_translation_letters >= limits.language_min_letters
                        AND (
                            signal_language_other >= limits.language_other
                            OR signal_language_source >= limits.language_source
                        ) THEN 'wrong_language'
                END,
                CASE
                    WHEN signal_caps >= limits.caps_share
                        AND signal_translation_letters >= limits.caps_min_letters THEN 'caps'
                END,
                CASE
                    WHEN signal_repetition_share >= limits.repetition_share
                        OR signal_repetition_loop >= limits.repetition_loop THEN 'repetition'
                END,
                -- A missing full stop alone is a habit of many translators; with a short translation it is a cut.
                CASE
                    WHEN NOT signal_finished OR (NOT signal_ending_kept AND signal_length_z < -limits.cut_off_z)
                        THEN 'cut_off'
                END,
                CASE WHEN signal_placeholders < limits.placeholders_share THEN 'placeholders' END,
                CASE
                    WHEN signal_numbers_changed > limits.numbers_changed
                        OR signal_numbers_kept < limits.numbers_kept THEN 'numbers'
                END,
                CASE WHEN abs(signal_length_z) > limits.length_z THEN 'length' END,
                CASE WHEN signal_lines < limits.lines_share THEN 'lines' END,
                -- Translators join sentences; one that is lost also makes the text shorter.
                CASE
                    WHEN signal_sentences < limits.sentences_share
                        OR (signal_sentences < 1 AND signal_length_z < -limits.sentences_z) THEN 'sentences'
                END,
                -- Many short requests have the same translation for a good reason.
                CASE
                    WHEN signal_collapsed_sources >= limits.collapsed_sources
                        AND signal_translation_letters >= limits.collapsed_min_letters THEN 'collapsed'
                END,
                CASE WHEN signal_logprob < limits.logprob THEN 'confidence' END,
                CASE
                    WHEN signal_reverse_logprob < limits.reverse_logprob
                        OR signal_dual_cross_entropy > limits.dual_cross_entropy THEN 'reverse'
                END,
                CASE WHEN signal_round_trip_chrf < limits.round_trip_chrf THEN 'round_trip' END,
                CASE
                    WHEN signal_similarity < limits.similarity
                        OR signal_embedding < limits.embedding_similarity THEN 'meaning'
                END,
                CASE WHEN signals.quality < limits.quality THEN 'quality' END
            ],
            lambda reason: reason IS NOT NULL AND list_contains($rules, reason)
        ) AS reasons
    FROM signals
    LEFT JOIN limits
        ON limits.target_code = signals.target_code
        AND limits.source_code IS NOT DISTINCT FROM signals.source_code
)
SELECT
    quality,
    len(reasons) = 0 AS keep,
    reasons[1] AS reason,
    reasons
FROM judged
ORDER BY row
