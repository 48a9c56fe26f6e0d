"""Did the translation end by itself?"""

from mlc.quality.signals.signal import Column, Deviations, Direction, Scope, Signal, Threshold

MEASURE = r"""
-- `signal_finished` is what the translator reported. The rest is evidence in the text that the end is missing.
-- Scripts without a full stop (Thai, Lao, Tibetan) have no `signal_ending_kept`; nor have pairs of languages whose
-- complete translations often lack it, which takes all rows to tell: measuring/batch.sql.
WITH endings AS (
    SELECT
        row,
        finished,
        target_script,
        regexp_matches(source, '[.!?…‥。！？．｡।॥؟۔።፧။។᱾᱿։՞][\pP\s\p{Z}\p{C}]*$') AS source_ends,
        -- Any closing punctuation counts: translators swap a full stop for a quotation mark or a colon, and a danda
        -- for a bar.
        regexp_matches(translation, '[\pP|][\s\p{Z}\p{C}]*$') AS translation_ends
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
"""

CUT_OFF = Signal(
    name="cut_off",
    priority=90,
    columns=(
        Column(
            "signal_finished",
            Direction.HIGHER_IS_BETTER,
            "The translator ended by itself, as it reports.",
            0,
            1,
            "BOOLEAN",
        ),
        Column(
            "signal_ending_kept",
            Direction.HIGHER_IS_BETTER,
            "The translation ends with punctuation, as the source does; NULL where complete translations often do not.",
            0,
            1,
            "BOOLEAN",
        ),
    ),
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019); here only the end, and only with the length.",
    scope=Scope.BATCH,
    uses=("length",),
    measure=MEASURE,
    # A missing full stop alone is a habit of many translators; with a short translation it is a cut.
    condition="NOT signal_finished OR (NOT signal_ending_kept AND signal_length_z < -limits.cut_off_z)",
    thresholds=(
        Threshold(
            "cut_off_z",
            Deviations,
            1.0,
            "Dropped when the final punctuation is missing and the translation is shorter than usual by more than "
            "this many robust standard deviations. A translator that reports no end is dropped in any case.",
        ),
    ),
)
