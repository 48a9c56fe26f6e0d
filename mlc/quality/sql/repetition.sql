-- Share of character n-grams that occurred before, and share of characters in the longest loop, each beyond
-- what the source has itself. Characters, so that it works without spaces; n is shorter where a character is a word.
-- The table `repeated`, one row a pair with both shares of both texts, is filled in signals/repetition.py.
SELECT
    row,
    -- greatest() passes over NULL, so what is not applicable has to be kept NULL by hand.
    CASE
        WHEN share_in_translation IS NOT NULL
            THEN greatest(share_in_translation - coalesce(share_in_source, 0), 0)
    END::DOUBLE AS signal_repetition_share,
    CASE
        WHEN loop_in_translation IS NOT NULL THEN greatest(loop_in_translation - coalesce(loop_in_source, 0), 0)
    END::DOUBLE AS signal_repetition_loop
FROM repeated
