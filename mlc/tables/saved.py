"""Data sets that ``datasets.save_to_disk`` wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

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
