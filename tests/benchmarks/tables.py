"""Reading the rows of a table in each format against the same rows in Parquet."""

import csv
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.tables import TableFile
from tests.benchmarks.measuring import Figure, alternate, ratio

FORMATS = ("jsonl", "json", "csv", "tsv")


@dataclass(frozen=True)
class Size:
    """The table, and how often it is read."""

    rows: int
    rounds: int


FULL = Size(rows=1_000_000, rounds=3)
QUICK = Size(rows=2_000, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Opening, which looks at the whole file, and reading all rows."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"x.{name}" for name in ("parquet", *FORMATS)}
        for path in paths.values():
            _write(path, size.rows)
        for name in FORMATS:
            works = [partial(_read, paths[name], size.rows), partial(_read, paths["parquet"], size.rows)]
            own, other = alternate(works, rounds=size.rounds)
            means = f"TableFile of {name} / TableFile of Parquet, opened and read row by row"
            yield ratio("tables", f"{name} over Parquet", means, own, other, **asdict(size))


def _read(path: Path, rows: int) -> None:
    read = sum(row.problem is None for row in TableFile(path))
    if read != rows:
        raise RuntimeError(f"{read} of {rows} rows of {path.suffix} are read.")


def _rows(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {
            "id": str(number),
            "prompt": f'How do I bake {number} loaves of "quick" bread at home, and what do I need?',
            "chosen": "Mix flour, water, salt and yeast, let it rise, and bake it for forty minutes.",
        }


def _write(path: Path, count: int) -> None:
    if path.suffix == ".parquet":
        schema = pa.schema([(name, pa.string()) for name in ("id", "prompt", "chosen")])
        with pq.ParquetWriter(path, schema) as writer:
            rows = list(_rows(min(count, 100_000)))
            for _ in range(-(-count // len(rows))):
                writer.write_table(pa.Table.from_pylist(rows, schema))
        return
    with path.open("w", encoding="utf-8", newline="") as handle:
        if path.suffix == ".csv":
            table = csv.DictWriter(handle, ("id", "prompt", "chosen"))
            table.writeheader()
            table.writerows(_rows(count))
        elif path.suffix == ".tsv":
            handle.write("id\tprompt\tchosen\n")
            handle.writelines("\t".join(row.values()) + "\n" for row in _rows(count))
        else:
            array = path.suffix == ".json"
            for number, row in enumerate(_rows(count)):
                before = ("[" if number == 0 else ", ") if array else ""
                handle.write(before + json.dumps(row) + ("" if array else "\n"))
            handle.write("]" if array else "")
