"""Did the characters themselves survive?"""

from mlc.quality.signals.signal import Column, Count, Direction, Signal, Threshold

MEASURE = r"""
-- Damage to the characters themselves, counted beyond what the source has: replacement characters, control and
-- private-use characters, and UTF-8 that was read as Latin-1 or Windows-1252 (mojibake).
-- Such misreading turns é into Ã©, ’ into â€™, и into Ð¸ and न into à¤¨. Single pairs that are also good spelling
-- (ß before a closing quotation mark, à before a no-break space) count only in runs of two or more.
CREATE TEMP MACRO continuation() AS '[\x{80}-\x{BF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]';

CREATE TEMP MACRO mojibake_pattern() AS
    'â€' || continuation() || '|(?:^|[^\p{Lu}])Ã' || continuation() || '|Â[\x{80}-\x{A0}¡-©¬-¹¼-¿]|ï»¿|ï¿½'
    || '|(?:[Ä-ß]' || continuation() || '){2,}|(?:[à-ï]' || continuation() || '{2}){2,}|ðŸ' || continuation();

CREATE TEMP MACRO damaged_pattern() AS '[\x{00}-\x{08}\x{0E}-\x{1F}\x{7F}-\x{84}\x{86}-\x{9F}\x{FFFD}\p{Co}]';

-- Every misreading starts with one of these, so most texts are done after one look.
CREATE TEMP MACRO damages(content) AS
    CASE
        WHEN content IS NULL THEN NULL
        WHEN NOT regexp_matches(
            content, '[Ââ-ïðÃÄ-ß]' || continuation() || '|à' || continuation() || '{2}|' || damaged_pattern()
        )
            THEN 0
        ELSE len(regexp_extract_all(content, mojibake_pattern())) + len(regexp_extract_all(content, damaged_pattern()))
    END;

WITH counted AS (
    SELECT row, damages(source) AS before, damages(translation) AS after FROM texts
)
SELECT row, CASE WHEN after IS NOT NULL THEN greatest(after - coalesce(before, 0), 0) END::BIGINT AS signal_garbled
FROM counted
"""

GARBLED = Signal(
    name="garbled",
    priority=30,
    columns=(
        Column(
            "signal_garbled",
            Direction.HIGHER_IS_WORSE,
            "Control, private-use and replacement characters, and UTF-8 read as Latin-1 or Windows-1252, counted "
            "beyond the source's.",
            0,
            kind="BIGINT",
        ),
    ),
    source="Mojibake repair as in ftfy (Speer, 2019) and control-character removal as in the Moses scripts; here "
    "counted in one pattern and not repaired, because a garbled translation is a broken export.",
    measure=MEASURE,
    condition="signal_garbled > limits.garbled_count",
    thresholds=(
        Threshold("garbled_count", Count, 0, "Dropped above: garbled characters beyond the source's, counted."),
    ),
)
