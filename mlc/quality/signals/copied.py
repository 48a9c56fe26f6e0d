"""Is the translation the source, untranslated?"""

from typing import TYPE_CHECKING

from mlc.quality.signals.signal import Column, Count, Direction, Level, Signal, Threshold

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

COMPARED = 600
"""Characters at the start of a text of which the distance is taken: it is quadratic."""


def similarities(sources: list[str], translations: list[str]) -> "NDArray[np.float64]":
    """1 - Levenshtein distance / longer length of each pair, times shorter length / longer length.

    The second factor keeps a text apart from a longer one that begins with it. Both count up to :data:`COMPARED`
    characters.

    Args:
        sources: [N] texts, none of them empty.
        translations: [N] texts, none of them empty.

    Returns:
        [N] from 0 to 1.
    """
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    left, right = ([text[:COMPARED] for text in side] for side in (sources, translations))
    similarity = cpdist(left, right, scorer=Levenshtein.normalized_similarity, dtype=np.float64, workers=1)
    lengths = np.array([[len(text) for text in side] for side in (left, right)]).reshape(2, -1)
    found: NDArray[np.float64] = similarity * lengths.min(axis=0) / lengths.max(axis=0)
    return found


def compare(connection: "DuckDBPyConnection") -> None:
    """Fills the table ``compared``: ``row``, ``similarity``.

    DuckDB's own distance counts bytes.
    """
    import numpy as np
    import pyarrow as pa

    pairs = connection.sql(
        """
        WITH apart AS (
            SELECT row, source, translation,
                nothing_in_common(source, translation) OR nothing_in_common(translation, source) AS nothing
            FROM texts
            WHERE source IS NOT NULL AND translation IS NOT NULL
        )
        SELECT
            row,
            CASE WHEN NOT nothing THEN bare(source) END AS a,
            CASE WHEN NOT nothing THEN bare(translation) END AS b
        FROM apart
        WHERE nothing OR (a <> '' AND b <> '')
        ORDER BY a IS NULL
        """
    ).to_arrow_table()
    similar = np.zeros(len(pairs))
    some = len(pairs) - pairs["a"].null_count
    similar[:some] = similarities(*(pairs[side][:some].to_pylist() for side in ("a", "b")))
    connection.register("compared", pa.table({"row": pairs["row"], "similarity": similar}))


MEASURE = r"""
-- 1 - Levenshtein distance / longer length, over letters and digits without case and accents; the table `compared` is
-- filled in `compare`.
-- Latin letters against none: the two have nothing in common, and nothing is compared.
CREATE TEMP MACRO nothing_in_common(a, b) AS
    NOT regexp_matches(b, '[\p{Latin}\pN]') AND regexp_matches(b, '\pL')
    AND NOT regexp_matches(a, '[^\PL\p{Latin}\p{Common}\p{Inherited}]') AND regexp_matches(a, '\p{Latin}');

SELECT row, similarity AS signal_copied
FROM compared
"""

COPIED = Signal(
    name="copied",
    priority=40,
    columns=(
        Column(
            "signal_copied",
            Direction.HIGHER_IS_WORSE,
            "Similarity of source and translation by edit distance, without case, accents and punctuation.",
            0,
            1,
        ),
    ),
    source="OpusFilter SimilarityFilter (Levenshtein, 1966).",
    prepare=compare,
    uses=("empty",),
    measure=MEASURE,
    # A name, a loan word or a formula is rightly the same in both languages.
    condition="signal_copied >= limits.copied_similarity AND signal_source_letters >= limits.copied_min_letters",
    thresholds=(
        Threshold(
            "copied_similarity",
            Level,
            0.85,
            "Dropped at or above: similarity of source and translation, 0 to 1. Above 1 switches the rule off.",
        ),
        Threshold(
            "copied_min_letters",
            Count,
            12,
            "The copied rule applies from this many letters in the source: names and loan words are rightly equal.",
        ),
    ),
)
