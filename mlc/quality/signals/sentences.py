"""Are sentences missing?"""

from mlc.quality.signals.signal import Column, Deviations, Direction, Share, Signal, Threshold

MEASURE = r"""
-- Share of the source's sentences that are left, by terminal punctuation; NULL for one sentence, and for
-- scripts without a full stop. Titles and initials with a full stop (Mr., St., U.S.) end no sentence of
-- the source; a source in another language than English only counts a few sentences less, which is lenient.
CREATE TEMP MACRO sentence_count(content) AS
    len(
        regexp_extract_all(
            content, '[.!?…‥।॥؟۔።፧။።។᱾᱿։՞]+[\pP]*(?:[\s\p{Z}]|$)|[。！？．｡]+[\pP]*|[^\s.!?…‥。！？．｡।॥؟۔።፧။។᱾᱿։՞\pP]$'
        )
    );

WITH counted AS (
    SELECT
        row,
        target_script,
        sentence_count(
            trim(
                regexp_replace(
                    source, '\b(?:Mrs?|Ms|Dr|St|Rev|Rep|Sen|Gov|Gen|Jr|Sr|Prof|No|vs|[A-Z])\.', '', 'g'
                )
            )
        ) AS before,
        sentence_count(trim(CASE WHEN target_script = 'Grek' THEN replace(translation, ';', '?') ELSE translation END))
            AS after
    FROM texts
)
SELECT
    row,
    CASE
        WHEN target_script NOT IN ('Thai', 'Laoo', 'Tibt') AND before > 1 AND after IS NOT NULL
            THEN least(after / before, 1.0)
    END::DOUBLE AS signal_sentences
FROM counted
"""

SENTENCES = Signal(
    name="sentences",
    priority=140,
    columns=(
        Column(
            "signal_sentences",
            Direction.HIGHER_IS_BETTER,
            "Share of the source's sentences that are left, by terminal punctuation.",
            0,
            1,
        ),
    ),
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019); NLLB is known to drop sentences.",
    uses=("length",),
    measure=MEASURE,
    # Translators join sentences; one that is lost also makes the text shorter.
    condition="""
        signal_sentences < limits.sentences_share
        OR (signal_sentences < 1 AND signal_length_z < -limits.sentences_z)
    """,
    thresholds=(
        Threshold(
            "sentences_share",
            Share,
            0.5,
            "Dropped below: share of sentences kept, 0 to 1. 0 switches the rule off.",
        ),
        Threshold(
            "sentences_z",
            Deviations,
            0.5,
            "Dropped when a sentence is missing and the translation is shorter than usual by more than this many "
            "robust standard deviations.",
        ),
    ),
)
