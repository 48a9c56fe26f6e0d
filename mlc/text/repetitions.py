"""How much of a text repeats what it said before."""

import re

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlc.text.codepoints import Codepoints

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
TEXTS_AT_ONCE = 1024
"""Texts whose code points are looked at together: what fits into a processor's cache."""


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
    shares, loops = np.full(len(texts), np.nan), np.full(len(texts), np.nan)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = slice(start, start + TEXTS_AT_ONCE)
        points = Codepoints.of(texts[part])
        for n in np.unique(lengths[part]):
            repeated, total = _count_repeated(points, int(n))
            known = (lengths[part] == n) & (total > 0)
            shares[part][known] = repeated[known] / total[known]
        loops[part] = _loop_shares(texts[part], points, shares[part])
    return shares, loops


def _count_repeated(points: Codepoints, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """N-grams of each text that occurred before in it, and all of them; [N] each."""
    count = len(points.lengths)
    total = np.maximum(points.lengths - n + 1, 0)
    hashes = _ngram_hashes(points.codes, n)
    rows = np.repeat(np.arange(count, dtype=np.uint64), points.lengths)
    places = np.arange(len(points.codes)) - np.repeat(points.starts, points.lengths)
    whole = places <= np.repeat(points.lengths, points.lengths) - n
    # The row in the upper bits and the n-gram's hash in the lower ones: equal keys are equal n-grams of one row.
    bits = np.uint64(max(1, count.bit_length()))
    keys = (rows << (np.uint64(64) - bits)) | (hashes >> bits)
    keys = np.sort(keys[whole])
    again = keys[1:][keys[1:] == keys[:-1]] >> (np.uint64(64) - bits)
    return np.bincount(again.astype(np.int64), minlength=count), total


def _ngram_hashes(codes: NDArray[np.uint32], n: int) -> NDArray[np.uint64]:
    """Hash [C] of the ``n`` code points from each place on, by doubling the width; the last ones mean nothing."""
    hashes, width = codes.astype(np.uint64) + np.uint64(1), 1
    result, done = None, 0
    while done < n:
        if n & width:
            result = hashes if result is None else _joined(result, hashes, done, width)
            done += width
        hashes, width = _joined(hashes, hashes, width, width), 2 * width
    assert result is not None
    # The upper bits are those that are kept, so every bit of the n-gram must reach them.
    return (result ^ (result >> np.uint64(29))) * np.uint64(_ODD)


def _joined(left: NDArray[np.uint64], right: NDArray[np.uint64], step: int, width: int) -> NDArray[np.uint64]:
    joined = left * np.uint64(pow(_BASE, width, 1 << 64))
    joined[: max(len(right) - step, 0)] += right[step:]
    return joined


def _loop_shares(texts: pa.Array, points: Codepoints, repeated: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`loop_share` of each text; the slow search runs only where a loop is."""
    shares = np.where(points.lengths > 0, 0.0, np.nan)
    loops = _has_loop(points, range(1, _SHORT_UNIT))
    suspects = np.flatnonzero((np.nan_to_num(repeated) > 0) & ~loops)
    if len(suspects):
        found = _has_loop(Codepoints.of(texts.take(pa.array(suspects))), range(_SHORT_UNIT, LONGEST_UNIT + 1))
        loops[suspects[found]] = True
    for row in np.flatnonzero(loops):
        share = loop_share(texts[int(row)].as_py())
        shares[row] = np.nan if share is None else share
    return shares


def _has_loop(points: Codepoints, units: range) -> NDArray[np.bool_]:
    """Whether a text has three rounds of a unit of one of some lengths."""
    found = np.zeros(len(points.lengths), bool)
    codes = points.codes
    for unit in units:
        span = 2 * unit
        if len(codes) <= span:
            break
        # Places where the character differs from the one a unit further on; a loop is a long way between two of them.
        breaks = np.flatnonzero(codes[unit:] != codes[:-unit])
        edges = np.concatenate([[-1], breaks, [len(codes) - unit]])
        long = np.flatnonzero(np.diff(edges) > span)
        for start, end in zip(edges[long] + 1, edges[long + 1], strict=True):
            # The way may cross from one text into the next.
            rows = np.unique(points.rows_of(np.array([start, end - 1])))
            for row in range(int(rows[0]), int(rows[-1]) + 1):
                first = max(int(start), int(points.starts[row]))
                last = min(int(end) + unit, int(points.starts[row] + points.lengths[row]))
                if last - first >= 3 * unit:
                    found[row] = True
    return found


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
