"""Data sets that ``datasets.save_to_disk`` wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset


def read_saved(folder: Path) -> "Dataset":
    """Opens a data set; safe to call from threads.

    Args:
        folder: What ``save_to_disk`` was given.
    """
    from datasets import load_from_disk
    from datasets.utils import tqdm

    # A lock that reading itself makes is taken away again, and another reading that began meanwhile fails without it.
    tqdm.get_lock()
    return load_from_disk(str(folder))


def write_saved(table: pa.Table, folder: Path, key: str) -> None:
    """Writes a data set, the same bytes for the same rows.

    Args:
        table: The rows.
        folder: Where to.
        key: What identifies the content.
    """
    from datasets import Dataset

    # A given fingerprint, because the library's own one holds the time.
    Dataset(table, fingerprint=key[:16]).save_to_disk(folder)
