"""Are sentences missing?"""

from typing import TYPE_CHECKING

from mlc.quality.signals.signal import Column, Deviations, Direction, Share, Signal, Threshold

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def count(connection: "DuckDBPyConnection") -> None:
    """Fills the table ``counted``: ``row``, ``target_script``, sentences ``before`` and ``after``.

    Marks are counted in both texts. Where the translation has fewer, the sentences of the source are what the splitter
    of the translator makes of it: it knows the abbreviations of its language.
    """
    import pyarrow as pa

    from mlc.translation.protection import has_words
    from mlc.translation.sentences import split_sentences

    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE marked AS
        SELECT
            row,
            source_code,
            target_script,
            unmarked_lists(source) AS content,
            sentence_count(content, source_script) AS before,
            sentence_count(unmarked_lists(translation), target_script) AS after
        FROM texts
        """
    )
    fewer = connection.sql("SELECT row, content, source_code FROM marked WHERE after < before").to_arrow_table()
    texts = zip(fewer["content"].to_pylist(), fewer["source_code"].to_pylist(), strict=True)
    found = [sum(map(has_words, split_sentences(text, code).sentences)) for text, code in texts]
    connection.register("split_sources", pa.table({"row": fewer["row"], "sentences": pa.array(found, pa.int64())}))
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE counted AS
        SELECT row, target_script, least(before, coalesce(sentences, before)) AS before, after
        FROM marked
        LEFT JOIN split_sources USING (row)
        """
    )


MEASURE = r"""
-- Share of the source's sentences that are left; NULL for one sentence, and for scripts without a full stop. The table
-- `counted` is filled in `count`.
-- Numbers and letters at the start of a line, as lists have them, end no sentence.
CREATE TEMP MACRO unmarked_lists(content) AS
    trim(regexp_replace(content, '(^|[\r\n])\s*(?:[0-9]{1,3}|[A-Za-z])[.)]', '\1', 'g'));

-- What is a full stop by script: the colon in Armenian, the bar in scripts of India where a keyboard has no danda, the
-- semicolon for the question mark in Greek, two word spaces in Ethiopic.
CREATE TEMP MACRO with_ends(content, script) AS
    CASE
        WHEN script = 'Armn' THEN regexp_replace(content, ':(\s|$)', '։\1', 'g')
        WHEN script = 'Grek' THEN replace(content, ';', '?')
        WHEN script = 'Ethi' THEN replace(content, '፡፡', '።')
        WHEN script IN ('Beng', 'Deva', 'Gujr', 'Guru', 'Knda', 'Mlym', 'Olck', 'Orya', 'Sinh', 'Taml', 'Telu')
            THEN replace(content, '|', '।')
        ELSE content
    END;

-- A mark that ends nothing else needs no space after it. A full stop without one ends a sentence behind two letters
-- and before a capital, or a letter of a script that has none. What follows the last mark is a sentence, too.
CREATE TEMP MACRO sentence_count(content, script) AS
    len(
        regexp_extract_all(
            with_ends(content, script),
            '[।॥؟۔።፧។៕။᱾᱿։]+[\pP]*|[。！？．｡]+[\pP]*|[.!?…‥՞]+[\pP]*(?:[\s\p{Z}]|$)'
            || '|[\pL\pM]{2}[.!?…]+[\pP]*[\p{Lu}\p{Lo}]|[^\s.!?…‥。！？．｡।॥؟۔።፧។៕။᱾᱿։՞\pP]$'
        )
    );

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
            "Share of the source's sentences that are left, by the marks that end them.",
            0,
            1,
        ),
    ),
    source="OpusFilter TerminalPunctuationFilter (Vázquez et al., 2019), with the splitter of the translator "
    "(sentencex) for the source; NLLB is known to drop sentences.",
    prepare=count,
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
            0.75,
            "Dropped when a sentence is missing and the translation is shorter than usual by more than this many "
            "robust standard deviations.",
        ),
    ),
)
