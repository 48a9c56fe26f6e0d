"""Data sets on disk."""

import threading
import time
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets.utils import tqdm
from tqdm.std import TqdmDefaultWriteLock

from mlc.tables import TableFile
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


def test_class_labels_are_read_by_name(tmp_path: Path) -> None:
    features = Features({"prompt": Value("string"), "label": ClassLabel(names=["harmful", "harmless"])})
    rows = Dataset.from_dict({"prompt": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.save_to_disk(tmp_path / "saved")
    for place in (tmp_path / "rows.parquet", tmp_path / "saved"):
        table = TableFile(place)
        assert [row.values["label"] for row in table] == ["harmless", "harmful", None]
        assert next(table.batches(3))["label"].to_pylist() == ["harmless", "harmful", None]
