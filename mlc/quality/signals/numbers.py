"""Are the numbers of the source in the translation?"""

import sys
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from mlc.quality.signals.signal import Column, Count, Direction, Share, Signal, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def begin(connection: "DuckDBPyConnection") -> None:
    """Sets the variables that tell the digits of other scripts and their values."""
    beyond_ascii = map(chr, range(128, sys.maxunicode + 1))
    digits = "".join(character for character in beyond_ascii if unicodedata.category(character) == "Nd")
    connection.execute("SET VARIABLE foreign_digits = ?", [digits])
    connection.execute("SET VARIABLE their_values = ?", ["".join(str(unicodedata.decimal(one)) for one in digits)])


def read(connection: "DuckDBPyConnection") -> None:
    """Fills the tables ``digits`` and ``spelled``: pairs with numbers, and what words say of those that differ.

    ``digits``: ``row``, both languages, both texts with digits of 0 to 9 alone, whether their numbers are ``alike``,
    and whether they are the ``same`` and there are any. ``spelled``: ``row``; both texts with powers of ten in digits;
    numbers that each of them writes in words and the other does not.
    """
    import pyarrow as pa

    from mlc.text.numerals import numerals_of

    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE digits AS
        WITH runs AS (
            SELECT
                row,
                source_code,
                target_code,
                ascii_digits(plain_source) AS source,
                ascii_digits(plain_translation) AS translation,
                list_sort(digit_runs(source)) AS wanted,
                list_sort(digit_runs(translation)) AS got
            FROM texts
            WHERE translation IS NOT NULL AND regexp_matches(plain_source, '\\p{Nd}')
        )
        SELECT * EXCLUDE (wanted, got), wanted = got AS alike, alike AND len(wanted) > 0 AS same FROM runs
        """
    )
    rows = connection.sql(
        "SELECT row, source_code, source AS a, target_code, translation AS b FROM digits WHERE NOT alike"
    )
    rows = rows.to_arrow_table()
    texts = list(
        zip(
            map(numerals_of, rows["source_code"].to_pylist()),
            rows["a"].to_pylist(),
            map(numerals_of, rows["target_code"].to_pylist()),
            rows["b"].to_pylist(),
            strict=True,
        )
    )
    written = [(Counter(before.written(a)), Counter(after.written(b))) for before, a, after, b in texts]
    columns = {
        "source": pa.array([before.in_digits(a) for before, a, _, _ in texts], pa.string()),
        "translation": pa.array([after.in_digits(b) for _, _, after, b in texts], pa.string()),
        "source_writes": _as_text(before - after for before, after in written),
        "translation_writes": _as_text(after - before for before, after in written),
    }
    connection.register("spelled", pa.table({"row": rows["row"], **columns}))


def _as_text(counted: "Iterable[Counter[int]]") -> "pa.Array":
    import pyarrow as pa

    return pa.array([[str(value) for value in values.elements()] for values in counted], pa.list_(pa.string()))


MEASURE = r"""
-- Numbers as multisets of digit strings. Digits of every script read as 0-9; separators of thousands and
-- decimals go; zeros at either end go too, because languages scale differently (1.2 million, 12 lakh, 120万).
-- Each pair is compared twice, with decimals as one number and as two, and the better counts: 7.30 may become
-- 07:30 or 7h30, and 2-1 may become 2:1.
-- Comparing multisets is quadratic, so the first 200 numbers of a text decide.
-- `kept`: share of the source's numbers found. `changed`: numbers that are missing while another one appeared;
-- a number that is merely written out in words is missing and is not replaced by another, and one with an imperial
-- unit may be converted (10 inches, 25 cm). A third time they are compared with words for powers of ten in digits
-- (120 million, 1億2000万); that and the words for numbers are in the table `spelled`, which is filled in `read`.
CREATE TEMP MACRO ascii_digits(content) AS
    CASE
        WHEN regexp_matches(content, '[^\P{Nd}0-9]')
            THEN translate(content, getvariable('foreign_digits'), getvariable('their_values'))
        ELSE content
    END;

CREATE TEMP MACRO significant(number) AS
    coalesce(nullif(trim(regexp_replace(number, '[^0-9]', '', 'g'), '0'), ''), '0');

CREATE TEMP MACRO whole_numbers(content) AS
    list_transform(
        regexp_extract_all(
            content, '[0-9]{1,3}(?:[.,''’٬\x{A0}\x{202F}\x{2009} ][0-9]{3})+(?:[.,٫][0-9]+)?\b|[0-9]+[.,٫][0-9]+|[0-9]+'
        )[:200],
        lambda number: significant(number)
    );

CREATE TEMP MACRO digit_runs(content) AS
    list_transform(
        -- 5 o'clock may become 5:00.
        list_filter(regexp_extract_all(content, '[0-9]+')[:200], lambda number: number <> '00'),
        lambda number: significant(number)
    );

-- Other ways to tell a number of the source: 17 for 5 p.m., 98 for 1998 and 1970 for the 70s, 20 (世纪) 30 for the
-- 1930s. They are no new numbers.
CREATE TEMP MACRO retold_numbers(content) AS
    list_concat(
        list_transform(
            regexp_extract_all(content, '(?i)\b(1[0-2]|[1-9])(?:[:.][0-9]{2})?\s?p\.?m\b', 1),
            lambda hour: significant((hour::INTEGER % 12 + 12)::VARCHAR)
        ),
        list_transform(regexp_extract_all(content, '\b(?:1[0-9]|20)([0-9]{2})s?\b', 1), lambda year: significant(year)),
        list_transform(
            regexp_extract_all(content, '\b(1[0-9]|20)[0-9]0s\b', 1),
            lambda century: significant((century::INTEGER + 1)::VARCHAR)
        ),
        flatten(
            list_transform(
                regexp_extract_all(content, '(?:^|[^0-9.,:])([0-9]{2})(?:s\b|[^0-9.,:%]|$)', 1),
                lambda year: [significant('19' || year), significant('20' || year)]
            )
        )
    );

-- In East Africa the hours are counted from six o'clock: 3 p.m. is nine, 10:15 a quarter past four.
CREATE TEMP MACRO hours_from_six(content, language) AS
    CASE
        WHEN language IN ('swh_Latn', 'lug_Latn', 'amh_Ethi', 'tir_Ethi', 'gaz_Latn') THEN list_transform(
            regexp_extract_all(
                content, '(?i)\b0?(1[0-2]|[1-9])(?:[:.][0-9]{2})?\s?[ap]\.?m\b|\b[012]?[0-9]:[0-9]{2}\b'
            ),
            lambda time: significant(((regexp_extract(time, '[0-9]+')::INTEGER + 5) % 12 + 1)::VARCHAR)
        )
        ELSE []::VARCHAR[]
    END;

CREATE TEMP MACRO metric(number, phrase) AS
    CASE
        WHEN contains(phrase, 'inch') THEN [number * 2.54]
        WHEN contains(phrase, 'foot') OR contains(phrase, 'feet') THEN [number * 0.3048]
        WHEN contains(phrase, 'yard') THEN [number * 0.9144]
        WHEN contains(phrase, 'mile') OR contains(phrase, 'mph') THEN [number * 1.609]
        WHEN contains(phrase, 'pound') OR contains(phrase, 'lb') THEN [number * 0.4536]
        WHEN contains(phrase, 'ounce') THEN [number * 28.35]
        WHEN contains(phrase, 'gallon') THEN [number * 3.785]
        WHEN contains(phrase, 'acre') THEN [number * 0.4047]
        ELSE [(number - 32) / 1.8, number / 1.8]
    END;

-- Numbers of the source with a unit of the imperial system, and what they are in metric units: 4 inches are 10 cm.
-- Both ends of a range count (2 to 4 inches). Degrees may be a temperature or a difference.
CREATE TEMP MACRO imperial_numbers(content) AS
    flatten(
        list_transform(
            regexp_extract_all(
                content,
                '(?i)(?:[0-9][0-9.,]*(?:\s?(?:to|and|or|-|–|—)\s?|\s))?[0-9][0-9.,]*[\s\x{A0}-]?'
                || '(?:(?:inch|foot|feet|yard|mile|pound|lb|ounce|gallon|acre|degree)(?:e?s)?|mph|fahrenheit|°\s?F)\b'
            )[:20],
            lambda phrase: list_transform(
                regexp_extract_all(phrase, '[0-9][0-9.,]*[0-9]|[0-9]'),
                lambda number: {
                    'number': significant(number),
                    'metric': metric(TRY_CAST(replace(number, ',', '') AS DOUBLE), lower(phrase))
                }
            )
        )
    );

-- Within a tenth, whatever the power of ten: numbers are compared without the zeros at their ends.
CREATE TEMP MACRO about_equal(number, other) AS
    number > 0 AND other > 0 AND abs(log10(number / other) - round(log10(number / other))) < 0.04;

CREATE TEMP MACRO converted_numbers(content, got) AS
    len(
        list_filter(
            imperial_numbers(content),
            lambda imperial: NOT list_contains(got, imperial.number) AND len(
                list_filter(
                    got,
                    lambda other: len(
                        list_filter(imperial.metric, lambda one: about_equal(one, TRY_CAST(other AS DOUBLE)))
                    ) > 0
                )
            ) > 0
        )
    );

WITH
differing AS (
    FROM digits WHERE NOT same
),
ways AS (
    SELECT row, target_code, source, whole_numbers(source) AS wanted, whole_numbers(translation) AS got FROM differing
    UNION ALL
    SELECT row, target_code, source, digit_runs(source) AS wanted, digit_runs(translation) AS got FROM differing
    UNION ALL
    SELECT row, target_code, differing.source, whole_numbers(spelled.source), whole_numbers(spelled.translation)
    FROM differing
    JOIN spelled USING (row)
),
found AS (
    SELECT
        ways.*,
        list_transform(coalesce(source_writes, []), lambda number: significant(number)) AS told_in_words,
        list_filter(
            list_transform(coalesce(translation_writes, []), lambda number: significant(number)),
            lambda number: NOT list_contains(got, number)
        ) AS kept_in_words
    FROM ways
    LEFT JOIN (SELECT row, source_writes, translation_writes FROM spelled) USING (row)
),
compared AS (
    SELECT
        row,
        len(wanted) AS wanted,
        shared_members(wanted, got) AS kept,
        greatest(
            len(got) - kept
            - shared_members(
                list_concat(retold_numbers(source), hours_from_six(source, target_code), told_in_words),
                list_filter(got, lambda number: NOT list_contains(found.wanted, number))
            ),
            0
        ) AS appeared,
        shared_members(kept_in_words, wanted) AS in_words,
        converted_numbers(source, got) AS converted
    FROM found
)
SELECT
    row,
    max(kept / nullif(wanted, 0))::DOUBLE AS signal_numbers_kept,
    min(CASE WHEN wanted > 0 THEN greatest(least(wanted - kept - in_words, appeared) - converted, 0) END)::BIGINT
        AS signal_numbers_changed
FROM compared
GROUP BY row
UNION ALL
-- The same numbers are all of them, and nothing has changed.
SELECT row, 1.0, 0
FROM digits
WHERE same
"""

NUMBERS = Signal(
    name="numbers",
    priority=110,
    columns=(
        Column("signal_numbers_kept", Direction.HIGHER_IS_BETTER, "Share of the source's numbers found.", 0, 1),
        Column(
            "signal_numbers_changed",
            Direction.HIGHER_IS_WORSE,
            "Numbers of the source that are missing while another number appeared.",
            0,
            kind="BIGINT",
        ),
    ),
    source="OpusFilter NonZeroNumeralsFilter (Vázquez et al., 2019); here as multisets, and told from words.",
    begin=begin,
    prepare=read,
    measure=MEASURE,
    condition="signal_numbers_changed > limits.numbers_changed OR signal_numbers_kept < limits.numbers_kept",
    thresholds=(
        Threshold("numbers_changed", Count, 0, "Dropped above: numbers that were replaced by other numbers, counted."),
        Threshold(
            "numbers_kept",
            Share,
            0.0,
            "Dropped below: share of numbers kept, 0 to 1. 0 is off, as numbers may be written out in words.",
        ),
    ),
)
