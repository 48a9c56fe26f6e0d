"""Measures translations, then decides which to keep.

The two are apart: signals are measured once and stored (:mod:`mlc.quality.measuring`), and a changed threshold only
needs :func:`mlc.quality.deciding.decide`.
"""

import pyarrow as pa

from mlc.quality.deciding import decide
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import text_signals


def filter_pairs(pairs: pa.Table, settings: QualitySettings) -> pa.Table:
    """Measures the text signals of every pair, and decides."""
    wanted = text_signals(settings.more_signals)
    return decide(compute_signals(pairs, signals=wanted, batch_rows=settings.length_batch_rows), settings)
