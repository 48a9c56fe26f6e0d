"""Is the translation written in the script of its language?"""

from mlc.quality.signals.signal import Column, Direction, Share, Signal, Threshold

MEASURE = r"""
-- Share of the letters that are in a script of the target language. NULL: no letters, or a script that has no
-- line below. Acronyms (NASA, HTML) are not counted.
-- A Chinese character, a kana or a Hangul syllable stands for two to three letters (exp of minus the centre in
-- length_ratios.csv): without the weight one foreign name would outweigh the sentence around it.
WITH
counted AS (
    SELECT
        row,
        target_script,
        CASE
            WHEN regexp_matches(plain_translation, '[A-Z][A-Z0-9]')
                THEN letters(regexp_replace(plain_translation, '[A-Z][A-Z0-9]+', ' ', 'g'))
            ELSE letters_of_translation
        END AS content
    FROM texts
),
foreign_letters AS (
    SELECT
        row,
        target_script,
        length(content) AS total,
        -- One constant pattern a script: RE2 compiles each of them once.
        length(CASE target_script
            WHEN 'Arab' THEN regexp_replace(content, '\p{Arabic}+', '', 'g')
            WHEN 'Armn' THEN regexp_replace(content, '\p{Armenian}+', '', 'g')
            WHEN 'Beng' THEN regexp_replace(content, '\p{Bengali}+', '', 'g')
            WHEN 'Cyrl' THEN regexp_replace(content, '\p{Cyrillic}+', '', 'g')
            WHEN 'Deva' THEN regexp_replace(content, '\p{Devanagari}+', '', 'g')
            WHEN 'Ethi' THEN regexp_replace(content, '\p{Ethiopic}+', '', 'g')
            WHEN 'Geor' THEN regexp_replace(content, '\p{Georgian}+', '', 'g')
            WHEN 'Grek' THEN regexp_replace(content, '\p{Greek}+', '', 'g')
            WHEN 'Gujr' THEN regexp_replace(content, '\p{Gujarati}+', '', 'g')
            WHEN 'Guru' THEN regexp_replace(content, '\p{Gurmukhi}+', '', 'g')
            WHEN 'Hang' THEN regexp_replace(content, '[\p{Hangul}\p{Han}]+', '', 'g')
            WHEN 'Kore' THEN regexp_replace(content, '[\p{Hangul}\p{Han}]+', '', 'g')
            WHEN 'Hani' THEN regexp_replace(content, '\p{Han}+', '', 'g')
            WHEN 'Hans' THEN regexp_replace(content, '\p{Han}+', '', 'g')
            WHEN 'Hant' THEN regexp_replace(content, '\p{Han}+', '', 'g')
            WHEN 'Hebr' THEN regexp_replace(content, '\p{Hebrew}+', '', 'g')
            WHEN 'Jpan' THEN regexp_replace(content, '[\p{Han}\p{Hiragana}\p{Katakana}]+', '', 'g')
            WHEN 'Khmr' THEN regexp_replace(content, '\p{Khmer}+', '', 'g')
            WHEN 'Knda' THEN regexp_replace(content, '\p{Kannada}+', '', 'g')
            WHEN 'Laoo' THEN regexp_replace(content, '\p{Lao}+', '', 'g')
            WHEN 'Latn' THEN regexp_replace(content, '\p{Latin}+', '', 'g')
            WHEN 'Mlym' THEN regexp_replace(content, '\p{Malayalam}+', '', 'g')
            WHEN 'Mong' THEN regexp_replace(content, '\p{Mongolian}+', '', 'g')
            WHEN 'Mtei' THEN regexp_replace(content, '\p{Meetei_Mayek}+', '', 'g')
            WHEN 'Mymr' THEN regexp_replace(content, '\p{Myanmar}+', '', 'g')
            WHEN 'Nkoo' THEN regexp_replace(content, '\p{Nko}+', '', 'g')
            WHEN 'Olck' THEN regexp_replace(content, '\p{Ol_Chiki}+', '', 'g')
            WHEN 'Orya' THEN regexp_replace(content, '\p{Oriya}+', '', 'g')
            WHEN 'Sinh' THEN regexp_replace(content, '\p{Sinhala}+', '', 'g')
            WHEN 'Syrc' THEN regexp_replace(content, '\p{Syriac}+', '', 'g')
            WHEN 'Taml' THEN regexp_replace(content, '\p{Tamil}+', '', 'g')
            WHEN 'Telu' THEN regexp_replace(content, '\p{Telugu}+', '', 'g')
            WHEN 'Tfng' THEN regexp_replace(content, '\p{Tifinagh}+', '', 'g')
            WHEN 'Thaa' THEN regexp_replace(content, '\p{Thaana}+', '', 'g')
            WHEN 'Thai' THEN regexp_replace(content, '\p{Thai}+', '', 'g')
            WHEN 'Tibt' THEN regexp_replace(content, '\p{Tibetan}+', '', 'g')
        END) AS outside
    FROM counted
),
weighted AS (
    SELECT
        row,
        outside,
        (total - outside) * CASE WHEN target_script IN ('Hani', 'Hans', 'Hant') THEN 2.5
            WHEN target_script IN ('Hang', 'Jpan', 'Kore') THEN 2.0 ELSE 1.0 END AS inside
    FROM foreign_letters
)
SELECT row, (inside / nullif(inside + outside, 0))::DOUBLE AS signal_script
FROM weighted
"""

SCRIPT = Signal(
    name="wrong_script",
    priority=50,
    columns=(
        Column(
            "signal_script",
            Direction.HIGHER_IS_BETTER,
            "Share of the letters that are in the script of the target language; acronyms and placeholders aside.",
            0,
            1,
        ),
    ),
    source="OpusFilter CharacterScoreFilter; here with scripts by ISO 15924 from the language table.",
    measure=MEASURE,
    condition="signal_script < limits.script_share",
    thresholds=(
        Threshold(
            "script_share",
            Share,
            0.5,
            "Dropped below: share of letters in the expected script, 0 to 1. 0 switches the rule off.",
        ),
    ),
)
