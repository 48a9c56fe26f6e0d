"""Which of two translations of a prompt is kept, where a second translator was asked."""

import pyarrow as pa
import pyarrow.compute as pc

from mlc.translation.table import FALLBACK


def wins(earlier: pa.Table, later: pa.Table) -> pa.ChunkedArray:
    """Whether the later translation of each row is kept: only where the filter keeps it, and not the earlier one.

    Args:
        earlier: Verdicts on the translations so far, with the column :data:`FALLBACK`.
        later: Verdicts on those of the next translator, where it was asked, and on the same rows.
    """
    asked = pc.not_equal(earlier[FALLBACK], later[FALLBACK])
    return pc.and_(asked, pc.and_(later["keep"], pc.invert(earlier["keep"])))


def better_of(earlier: pa.Table, later: pa.Table) -> pa.Table:
    """The verdicts on the better translation of each row; the earlier one where both are as good.

    Args:
        earlier: As in :func:`wins`, N rows.
        later: The same rows in the same order.
    """
    count = len(earlier)
    places = [count + row if later_wins else row for row, later_wins in enumerate(wins(earlier, later).to_pylist())]
    both = pa.concat_tables([earlier, later.select(earlier.column_names).cast(earlier.schema)])
    return both.take(pa.array(places, pa.int64()))
