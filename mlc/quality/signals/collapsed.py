"""Do different sources have one and the same translation?"""

from mlc.quality.signals.signal import AtLeastTwo, Column, Count, Direction, Scope, Signal, Threshold

MEASURE = r"""
-- What is compared to find translations that several sources share; how many, needs all rows: measuring/collapse.sql.
-- Without capitals, spaces and the most frequent punctuation: a source that only ends in another way is no other one.
CREATE TEMP MACRO comparison_key(content) AS
    CASE
        WHEN content IS NOT NULL
            THEN hash(
                replace(replace(replace(replace(replace(lower(content), ' ', ''), ',', ''), '.', ''), '!', ''), '?', '')
            )
    END;

-- Words of four letters or more, each as one bit of 62. NULL for more than 16, which are no short way to say a thing,
-- and where there are digits, which may be all that differs.
CREATE TEMP MACRO bits_of(words) AS
    list_sum(
        list_transform(
            list_distinct(list_transform(words, lambda word: (hash(word) % 62)::INTEGER)), lambda bit: 1::BIGINT << bit
        )
    )::BIGINT;

CREATE TEMP MACRO word_bits(content) AS
    CASE
        WHEN length(content) < 200 AND NOT regexp_matches(content, '\pN')
            AND len(regexp_extract_all(content, '[\pL\pM]{4,}')) <= 16
            THEN bits_of(regexp_extract_all(lower(content), '[\pL\pM]{4,}'))
    END;

SELECT
    row,
    comparison_key(tidy_source) AS source_key,
    comparison_key(tidy_translation) AS translation_key,
    word_bits(tidy_source) AS source_words
FROM texts
"""

COLLAPSED = Signal(
    name="collapsed",
    priority=150,
    columns=(
        Column(
            "signal_collapsed_sources",
            Direction.HIGHER_IS_WORSE,
            "Different sources among all rows that have this translation into this language, compared without "
            "capitals, spaces and punctuation, those aside that say the same in mostly the same words; 1 where nothing "
            "collapses.",
            1,
            kind="BIGINT",
        ),
    ),
    source="Khayrallah and Koehn (2018), noise in parallel corpora; Lee et al. (2018), hallucinations: a translator "
    "that has lost its input falls back on the same sentences. Counted as OpusFilter's duplicate filter counts, but "
    "on one side and within a target language.",
    scope=Scope.BATCH,
    uses=("empty",),
    measure=MEASURE,
    # Many short requests have the same translation for a good reason.
    condition="""
        signal_collapsed_sources >= limits.collapsed_sources
        AND signal_translation_letters >= limits.collapsed_min_letters
    """,
    thresholds=(
        Threshold(
            "collapsed_sources",
            AtLeastTwo,
            3,
            "Dropped at or above: different sources that share one translation, counted over all rows.",
        ),
        Threshold(
            "collapsed_min_letters",
            Count,
            12,
            "The collapsed rule applies from this many letters in the translation: short answers are rightly shared.",
        ),
    ),
)
