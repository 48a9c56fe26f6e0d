"""Which of two translations of a prompt is kept, where a second translator was asked."""

import pyarrow as pa
import pyarrow.compute as pc


def wins(earlier: pa.Table, later: pa.Table, asked: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether the later translation of each row is kept: only where the filter keeps it, and not the earlier one.

    Args:
        earlier: Verdicts on the translations so far, N rows.
        later: Verdicts on those of the next translator where it was asked, and on the same translations elsewhere; the
            same rows in the same order.
        asked: Where it was asked.
    """
    return pc.and_(asked, pc.and_(later["keep"], pc.invert(earlier["keep"])))


def better_of(earlier: pa.Table, later: pa.Table, asked: pa.ChunkedArray) -> pa.Table:
    """The verdicts on the better translation of each row; the earlier one where both are as good.

    Args:
        earlier: As in :func:`wins`, with the columns of the result.
        later: As in :func:`wins`.
        asked: As in :func:`wins`.
    """
    count = len(earlier)
    won = wins(earlier, later, asked).to_pylist()
    places = [count + row if later_wins else row for row, later_wins in enumerate(won)]
    both = pa.concat_tables([earlier, later.select(earlier.column_names).cast(earlier.schema)])
    return both.take(pa.array(places, pa.int64()))
