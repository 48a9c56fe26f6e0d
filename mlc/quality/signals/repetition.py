"""Does the translation loop?"""

import re

import duckdb
import pyarrow as pa

from mlc.quality.signals.signal import Column, Direction, Signal

LONGEST_UNIT = 80
"""Longest stretch, in characters, that is looked for as the unit of a loop."""

_LOOP = re.compile(rf"(.{{1,{LONGEST_UNIT}}}?)\1{{2,}}", re.DOTALL)


def loop_share(content: str | None) -> float | None:
    """Returns the share of the characters that are in the longest loop, its first round aside.

    A loop is the same unit, with a letter in it, at least three times on end. RE2 has no backreferences, so
    this is the one measure of the text that is not in DuckDB.

    Args:
        content: Any text.

    Returns:
        A share from 0 to 1; None where there is no text.
    """
    if not content:
        return None
    lengths = (
        len(match[0]) - len(match[1])
        for match in _LOOP.finditer(content.casefold())
        if any(character.isalpha() for character in match[1])
    )
    return min(1.0, max(lengths, default=0) / len(content))


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills the table ``loops``, one row a pair."""
    rows = connection.execute("SELECT row, source, translation FROM texts ORDER BY row").fetchall()
    shares = {text: loop_share(text) for row in rows for text in row[1:]}
    columns = {
        "row": pa.array([row[0] for row in rows], pa.int64()),
        "in_source": pa.array([shares[row[1]] or 0.0 for row in rows], pa.float64()),
        "in_translation": pa.array([shares[row[2]] for row in rows], pa.float64()),
    }
    connection.register("loops", pa.table(columns))


REPETITION = Signal(
    name="repetition",
    columns=(
        Column(
            "signal_repetition_share",
            Direction.HIGHER_IS_WORSE,
            "Share of character n-grams that occurred before (10 characters; 4 in Chinese and Japanese), "
            "beyond the source's.",
            0,
            1,
        ),
        Column(
            "signal_repetition_loop",
            Direction.HIGHER_IS_WORSE,
            "Share of the characters in the longest loop of three rounds or more, beyond the source's.",
            0,
            1,
        ),
    ),
    fails="signal_repetition_share >= limits.repetition_share OR signal_repetition_loop >= limits.repetition_loop",
    source="Rae et al. (2021), Gopher, repetition removal; OpusFilter RepetitionFilter. Here relative to the source.",
    prepare=prepare,
)
