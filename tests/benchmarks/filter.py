"""Whether the quality filter's time grows in step with the number of pairs."""

import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.languages import ENGLISH
from mlc.quality.settings import QualitySettings
from mlc.quality.streaming import filter_file
from mlc.shipped import shipped_data
from tests.benchmarks.measuring import Figure, alternate, peak_kib, ratio

COPIED_EVERY = 10
"""One pair in so many is an untranslated one, so that there is something to drop."""


@dataclass(frozen=True)
class Size:
    """Numbers of pairs, and how often they are measured."""

    few: int
    many: int
    rounds: int


FULL = Size(few=100_000, many=1_000_000, rounds=2)
QUICK = Size(few=20, many=100, rounds=3)
THREADS = 2
BLOCK = 100_000
"""Pairs that are made at once."""


def run(*, quick: bool) -> Iterator[Figure]:
    """Time per row of many pairs over that of few: 1 is linear, below 1 is the fixed part at work."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write_pairs(folder / f"{count}.parquet", count) for count in (size.few, size.many)]

        def judge(path: Path) -> int:
            return filter_file(path, folder / "verdicts.parquet", QualitySettings(), threads=THREADS).kept

        kept = judge(files[0])
        for_few, for_many = alternate([lambda: judge(files[0]), lambda: judge(files[1])], rounds=size.rounds)

    def per_row(of_many: float, of_few: float) -> float:
        return (of_many / size.many) / (of_few / size.few)

    means = f"time per row of {size.many} pairs / time per row of {size.few} pairs"
    yield ratio(
        "filter",
        "growth of time per row",
        means,
        for_many,
        for_few,
        quotient=per_row,
        **asdict(size),
        kept=kept,
        threads=THREADS,
        pairs_a_second=round(size.many / statistics.median(for_many.wall)),
        processor_microseconds_a_pair=round(1e6 * statistics.median(for_many.cpu) / size.many, 1),
        peak_memory_megabytes=peak_kib() // 1024,
    )


def write_pairs(path: Path, count: int) -> Path:
    """Writes generated pairs to a Parquet file, a block at a time."""
    with pq.ParquetWriter(path, generated_pairs(1).schema) as writer:
        for start in range(0, count, BLOCK):
            writer.write_table(generated_pairs(min(BLOCK, count - start), start))
    return path


def generated_pairs(count: int, start: int = 0) -> pa.Table:
    """Distinct pairs: reference translations of the quickstart, numbered.

    Args:
        count: Number of pairs.
        start: Number of the first one.
    """
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()
    references = [
        (row[ENGLISH], language, text)
        for row in map(json.loads, lines)
        for language, text in row.items()
        if language not in ("id", ENGLISH)
    ]
    rows = []
    for number in range(start, start + count):
        source, language, text = references[number % len(references)]
        numbered = f"{source} {number}"
        rows.append(
            {
                "source": numbered,
                "translation": numbered if number % COPIED_EVERY == 0 else f"{text} {number}",
                "source_language": ENGLISH,
                "target_language": language,
            }
        )
    return pa.Table.from_pylist(rows)
