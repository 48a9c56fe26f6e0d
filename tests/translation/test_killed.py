"""Killed at random moments, the translation ends with the rows of an undisturbed run, each once."""

import random
import time

import pyarrow.parquet as pq
import pytest

from tests.forking import forking_from, start
from tests.translation import work_and_be_killed as worker

KILLS = 20
"""In the default run, and with ``--full``."""
TEXTS = 400


@pytest.fixture
def processes(tiny_nllb_folder):
    """Starts processes that have the model loaded already."""
    with forking_from(worker.__name__, {worker.CHECKPOINT: str(tiny_nllb_folder)}) as context:
        yield context


def rows(root):
    """Rows of each language as they lie on the disk, with their repeats."""
    found = {}
    for path in root.glob("*/*/*/*.parquet"):
        found.setdefault(path.parent.name, []).extend(
            map(tuple, (row.values() for row in pq.read_table(path).to_pylist()))
        )
    return found


@pytest.mark.full
@pytest.mark.slow
def test_killed_at_random_moments(processes, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = start(processes, worker.work, alone, tmp_path / "alone.txt", TEXTS)
    begun = time.monotonic()
    process.join()
    assert process.exitcode == 0
    seconds = time.monotonic() - begun

    generator = random.Random(0)
    in_the_midst = 0
    for _ in range(KILLS):
        process = start(processes, worker.work, killed, tmp_path / "killed.txt", TEXTS)
        time.sleep(generator.uniform(0, 1.5 * seconds / KILLS))
        in_the_midst += process.is_alive()
        process.kill()
        process.join()
        # Every visible part can be read, at any moment.
        rows(killed)
    process = start(processes, worker.work, killed, tmp_path / "killed.txt", TEXTS)
    process.join()
    assert process.exitcode == 0

    expected, found = rows(alone), rows(killed)
    assert found.keys() == expected.keys() == set(worker.TARGETS)
    for target in worker.TARGETS:
        texts = [sorted(row[:2] for row in table[target]) for table in (expected, found)]
        assert texts[0] == texts[1]
        assert len({row[0] for row in found[target]}) == len(found[target])
    batches = [[int(size) for size in (tmp_path / f"{name}.txt").read_text().split()] for name in ("alone", "killed")]
    assert sum(batches[0]) == sum(map(len, expected.values()))
    assert in_the_midst >= KILLS // 2
    # Each kill costs at most the batch that it met, and that not even whole where a language of it was stored.
    assert sum(batches[1]) - sum(batches[0]) <= in_the_midst * max(batches[0])
