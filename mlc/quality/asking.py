"""Signals that need a model, measured only for the rows that passed all others, because a model takes long."""

from typing import Protocol

import numpy as np
import pyarrow as pa

from mlc.stopping import ShouldStop, never


class RowModel(Protocol):
    """Measures signals that need a model."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it fills."""

    def measure(self, pairs: pa.Table, should_stop: ShouldStop = never) -> pa.Table:
        """Measures pairs.

        Args:
            pairs: ``source``, ``translation``, ``source_code``, ``target_code`` and, where the input has it,
                ``back_translation``; nothing is NULL but the last.
            should_stop: Looked at before each batch.

        Returns:
            The columns ``columns``, in the order of the pairs.
        """


def measure_passed(
    model: RowModel, pairs: pa.Table, passed: pa.ChunkedArray, should_stop: ShouldStop = never
) -> pa.Table:
    """Asks a model about the rows that passed.

    Args:
        model: Measures.
        pairs: The columns that it takes; of rows that did not pass anything may be NULL.
        passed: Which rows passed.
        should_stop: Looked at before each batch.

    Returns:
        The model's columns, one row for each of ``pairs``; NULL where it was not asked.
    """
    rows = np.flatnonzero(passed.to_numpy(zero_copy_only=False))
    measured = model.measure(pairs.take(pa.array(rows)), should_stop)
    place = np.full(len(pairs), -1)
    place[rows] = np.arange(len(rows))
    indices = pa.array(place, mask=place < 0)
    return pa.table({name: measured[name].combine_chunks().take(indices) for name in measured.column_names})
