"""How much of a text repeats what it said before."""

import re
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlc.text.codepoints import BEHIND, Padded

LONGEST_UNIT = 80
"""Longest stretch, in characters, that is looked for as the unit of a loop."""
NGRAM, NGRAM_OF_WORDS = 10, 4
"""Characters in an n-gram; the second where a character is a word."""
WORD_SCRIPTS = ("Hans", "Hant", "Jpan")
"""Scripts in which a character is a word."""

_LOOP = re.compile(rf"(.{{1,{LONGEST_UNIT}}}?)\1{{2,}}", re.DOTALL)
_SHORT_UNIT = NGRAM // 2
"""Three rounds of a unit of this length or more repeat an n-gram, and so need no look of their own."""
_BASE, _ODD = 0xBF58476D1CE4E5B9, 0x9E3779B97F4A7C15
"""Odd numbers with bits all over, for hashing (those of SplitMix64)."""
_BEHIND = np.uint64(0xFFFFFFFFFFFFFFFF)
"""In place of a hash behind the last n-gram of a text."""
CELLS_AT_ONCE = 65_536
"""Code points that are looked at together, shorter texts filled up: what fits into a processor's cache."""


def loop_share(content: str | None) -> float | None:
    """Returns the share of the characters that are in the longest loop, its first round aside.

    A loop is the same unit, with a letter in it, at least three times on end. RE2 has no backreferences, so
    this is not in DuckDB.

    Args:
        content: Any text.

    Returns:
        A share from 0 to 1; None where there is no text.
    """
    if not content:
        return None
    folded = content.casefold()
    lengths = (
        len(match[0]) - len(match[1])
        for match in _LOOP.finditer(folded)
        if any(character.isalpha() for character in match[1])
    )
    return min(1.0, max(lengths, default=0) / len(folded))


def repetitions(texts: pa.Array, lengths: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measures the repetition in each text.

    Args:
        texts: [N] strings, may be NULL.
        lengths: [N] characters in an n-gram, at most 10.

    Returns:
        [N] share of n-grams that occurred before in the text, NaN where it is shorter than an n-gram; [N]
        :func:`loop_share`, NaN where there is no text.
    """
    sizes = pc.utf8_length(texts.fill_null("")).to_numpy(zero_copy_only=False)
    shares, loops = np.full(len(texts), np.nan), np.zeros(len(texts), bool)
    for n in np.unique(lengths):
        for rows in _alike(sizes, np.flatnonzero(lengths == n)):
            points = Padded.of(texts.take(pa.array(rows)))
            shares[rows] = _repeated_shares(points, int(n))
            loops[rows] = _has_loop(points, range(1, _SHORT_UNIT))
    for rows in _alike(sizes, np.flatnonzero((np.nan_to_num(shares) > 0) & ~loops)):
        loops[rows] = _has_loop(Padded.of(texts.take(pa.array(rows))), range(_SHORT_UNIT, LONGEST_UNIT + 1))
    return shares, _loop_shares(texts, np.where(sizes > 0, 0.0, np.nan), loops)


def _alike(sizes: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows by the length of their texts, those together that are looked at together: about as long as one another."""
    rows = rows[np.argsort(sizes[rows], kind="stable")]
    while len(rows):
        cells = sizes[rows[: CELLS_AT_ONCE + 1]] * np.arange(1, min(len(rows), CELLS_AT_ONCE + 1) + 1)
        count = max(1, int(np.searchsorted(cells, CELLS_AT_ONCE, side="right")))
        yield rows[:count]
        rows = rows[count:]


def _repeated_shares(points: Padded, n: int) -> NDArray[np.float64]:
    """Share of the n-grams of each text that occurred before in it, [N]; NaN where it is shorter than one."""
    total = np.maximum(points.lengths - n + 1, 0)
    shares = np.full(len(total), np.nan)
    places = points.codes.shape[1] - n + 1
    if places > 0:
        hashes = _ngram_hashes(points.codes, n)
        hashes[np.arange(places) >= total[:, None]] = _BEHIND
        # Row by row: short rows are sorted many times faster than one long array.
        hashes.sort(axis=1)
        again = np.count_nonzero(hashes[:, 1:] == hashes[:, :-1], axis=1) - np.maximum(places - total - 1, 0)
        np.divide(again, total, out=shares, where=total > 0)
    return shares


def _ngram_hashes(codes: NDArray[np.uint32], n: int) -> NDArray[np.uint64]:
    """Hashes [N, C - n + 1] of the ``n`` code points from each place on, by doubling the width; C is at least ``n``."""
    hashes, width = codes.astype(np.uint64) + np.uint64(1), 1
    result, done = hashes, 0
    while True:
        if n & width:
            result = _joined(result, hashes, done, width) if done else hashes
            done += width
        if done == n:
            # All bits of an n-gram in every one of its hash.
            return (result ^ (result >> np.uint64(29))) * np.uint64(_ODD)
        hashes, width = _joined(hashes, hashes, width, width), 2 * width


def _joined(left: NDArray[np.uint64], right: NDArray[np.uint64], step: int, width: int) -> NDArray[np.uint64]:
    places = right.shape[1] - step
    joined: NDArray[np.uint64] = left[:, :places] * np.uint64(pow(_BASE, width, 1 << 64)) + right[:, step:]
    return joined


def _loop_shares(texts: pa.Array, shares: NDArray[np.float64], loops: NDArray[np.bool_]) -> NDArray[np.float64]:
    """:func:`loop_share` of each text; the slow search runs only where a loop is."""
    for row in np.flatnonzero(loops):
        share = loop_share(texts[int(row)].as_py())
        shares[row] = np.nan if share is None else share
    return shares


def _has_loop(points: Padded, units: range) -> NDArray[np.bool_]:
    """Whether a text has three rounds of a unit of one of some lengths, [N]; of a single character, of a letter."""
    found = np.zeros(len(points.lengths), bool)
    codes = points.codes
    within = codes != BEHIND
    for unit in units:
        if codes.shape[1] < 3 * unit:
            break
        # Where the character is that of a unit before; a loop is a stretch of two units of such places.
        same = (codes[:, unit:] == codes[:, :-unit]) & within[:, unit:]
        loops = _all_along(same, 2 * unit)
        if unit == 1:
            # Full stops and zeros come in threes everywhere, and are no loop.
            rows, places = np.nonzero(loops)
            loops[rows, places] = [chr(code).isalpha() for code in codes[rows, places]]
        found |= loops.any(axis=1)
    return found


def _all_along(true: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Where ``length`` places from here on are true, [N, C - length + 1]."""
    done = 1
    while done < length:
        step = min(done, length - done)
        true = true[:, :-step] & true[:, step:]
        done += step
    return true


def measure_repetitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills the table ``repeated``, one row a pair that has words."""
    texts = connection.sql(
        """
        SELECT row, lower(tidy_source) AS source, lower(tidy_translation) AS translation,
            list_contains($scripts, source_script) AS source_words,
            list_contains($scripts, target_script) AS target_words
        FROM texts WHERE source_letters + translation_letters > 0 ORDER BY row
        """,
        params={"scripts": list(WORD_SCRIPTS)},
    ).to_arrow_table()
    columns = {"row": texts["row"]}
    for side, words in (("source", "source_words"), ("translation", "target_words")):
        content = texts[side].combine_chunks()
        of_words = texts[words].fill_null(False).to_numpy(zero_copy_only=False)
        shares, loops = repetitions(content, np.where(of_words, NGRAM_OF_WORDS, NGRAM))
        columns[f"share_in_{side}"] = pa.array(shares, from_pandas=True)
        columns[f"loop_in_{side}"] = pa.array(loops, from_pandas=True)
    connection.register("repeated", pa.table(columns))
