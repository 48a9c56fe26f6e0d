"""Is the translation the source, untranslated?"""

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlc.quality.signals.signal import Column, Direction, Signal

COMPARED = 600
"""Characters at the start of a text of which the distance is taken: it is quadratic."""


def similarities(sources: list[str], translations: list[str]) -> NDArray[np.float64]:
    """1 - Levenshtein distance / longer length of each pair, times shorter length / longer length.

    The second factor keeps a text apart from a longer one that begins with it. Both count up to :data:`COMPARED`
    characters.

    Args:
        sources: [N] texts, none of them empty.
        translations: [N] texts, none of them empty.

    Returns:
        [N] from 0 to 1.
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    left, right = ([text[:COMPARED] for text in side] for side in (sources, translations))
    similarity = cpdist(left, right, scorer=Levenshtein.normalized_similarity, dtype=np.float64, workers=1)
    lengths = np.array([[len(text) for text in side] for side in (left, right)]).reshape(2, -1)
    found: NDArray[np.float64] = similarity * lengths.min(axis=0) / lengths.max(axis=0)
    return found


def compare(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills the table ``compared``: ``row``, ``similarity``.

    DuckDB's own distance counts bytes.
    """
    pairs = connection.sql(
        """
        SELECT row, bare(source) AS a, bare(translation) AS b
        FROM texts
        WHERE source IS NOT NULL AND translation IS NOT NULL
            AND NOT nothing_in_common(source, translation) AND NOT nothing_in_common(translation, source)
            AND a <> '' AND b <> ''
        """
    ).to_arrow_table()
    found = similarities(pairs["a"].to_pylist(), pairs["b"].to_pylist())
    connection.register("compared", pa.table({"row": pairs["row"], "similarity": found}))


COPIED = Signal(
    name="copied",
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
)
