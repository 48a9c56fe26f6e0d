"""Are the numbers of the source in the translation?"""

import sys
import unicodedata

import duckdb

from mlc.quality.signals.signal import Column, Direction, Signal

_FOREIGN_DIGITS = "".join(
    character for character in map(chr, range(128, sys.maxunicode + 1)) if unicodedata.category(character) == "Nd"
)


def begin(connection: duckdb.DuckDBPyConnection) -> None:
    """Sets the variables that tell the digits of other scripts and their values."""
    connection.execute("SET VARIABLE foreign_digits = ?", [_FOREIGN_DIGITS])
    values = "".join(str(unicodedata.decimal(character)) for character in _FOREIGN_DIGITS)
    connection.execute("SET VARIABLE their_values = ?", [values])


NUMBERS = Signal(
    name="numbers",
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
)
