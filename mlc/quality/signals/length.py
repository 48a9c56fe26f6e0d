"""Is the translation about as long as translations into its language are?"""

from pathlib import Path

from mlc.quality.signals.signal import Column, Direction, Scope, Signal

LENGTH_RATIOS = Path(__file__).resolve().parent.parent / "length_ratios.csv"
"""Centre and spread of ln(characters / characters of English) by language, script or ``*``.

Made with ``python -m mlc.making.length_table FOLDER``, see there: rows with an origin are the median and 1.4826 × the
median absolute deviation over parallel texts that people wrote. They are statistics, no text of the sets is in the
project. The other rows are wide guesses by script.
"""

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
    source="Gale and Church (1993), variance by length; OpusFilter LengthRatioFilter. Here by language pair: the "
    "shipped centre, or the median and the median absolute deviation of the rows themselves where they are enough.",
    scope=Scope.BATCH,
)
