"""Data sets on disk."""

import threading
import time
from pathlib import Path

import pytest
from datasets import Dataset
from datasets.utils import tqdm
from tqdm.std import TqdmDefaultWriteLock

from mlc.tables.saved import read_saved

READERS = 4


def test_several_threads_may_be_the_first_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Dataset.from_dict({"a": [1, 2]}).save_to_disk(tmp_path)
    made = TqdmDefaultWriteLock.create_mp_lock

    def slowly() -> None:
        time.sleep(0.02)
        made()

    # Each is between looking for the lock and making it while the others are, as at the start of a process.
    monkeypatch.setattr(TqdmDefaultWriteLock, "create_mp_lock", slowly)
    for kind in tqdm.__mro__:
        if "_lock" in vars(kind):
            monkeypatch.delattr(kind, "_lock")
    begun = threading.Barrier(READERS)
    read: list[list[int]] = []

    def reading() -> None:
        begun.wait()
        read.append(read_saved(tmp_path)["a"][:])

    readers = [threading.Thread(target=reading) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert read == [[1, 2]] * READERS
