"""Is the translation about as long as translations into its language are?"""

from pathlib import Path

import duckdb

from mlc.quality.signals.signal import Column, Direction, Signal

LENGTH_RATIOS = Path(__file__).resolve().parent.parent / "length_ratios.csv"
"""Centre and spread of ln(characters / characters of English) by language, script or ``*``.

Rows whose origin is ``ntrex128`` are the median and 1.4826 × the median absolute deviation over the 1,997
sentences of NTREX-128 (Federmann et al., 2022), made with ``python -m mlc.quality.length_table FOLDER``; they
are statistics, no text of the set is in the project. The other rows are wide guesses by script.
"""


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Loads the table ``length_ratios``."""
    connection.execute("CREATE TEMP TABLE length_ratios AS FROM read_csv(?, header = true)", [str(LENGTH_RATIOS)])


LENGTH = Signal(
    name="length",
    columns=(
        Column(
            "signal_length_log_ratio",
            Direction.TWO_SIDED,
            "Natural logarithm of characters of the translation / characters of the source, spaces aside.",
        ),
        Column(
            "signal_length_z",
            Direction.TWO_SIDED,
            "Robust standard deviations from the usual ratio of the pair of languages; wider for short sources.",
        ),
    ),
    fails="abs(signal_length_z) > limits.length_z",
    source="Gale and Church (1993), variance by length; OpusFilter LengthRatioFilter. Here by language pair.",
    prepare=prepare,
)
