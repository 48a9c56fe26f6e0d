"""Whether the quality filter's time grows in step with the number of pairs."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from mlc.languages import ENGLISH
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings
from mlc.shipped import shipped_data
from tests.benchmarks.measuring import Figure, alternate, ratio

COPIED_EVERY = 10
"""One pair in so many is an untranslated one, so that there is something to drop."""


@dataclass(frozen=True)
class Size:
    """Numbers of pairs, and how often they are measured."""

    few: int
    many: int
    rounds: int


FULL = Size(few=5_000, many=50_000, rounds=3)
QUICK = Size(few=20, many=100, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Time per row of many pairs over that of few: 1 is linear, below 1 is the fixed part at work."""
    size = QUICK if quick else FULL
    few, many = generated_pairs(size.few), generated_pairs(size.many)
    settings = QualitySettings()
    kept = sum(filter_pairs(few, settings)["keep"].to_pylist())
    for_few, for_many = alternate(
        [lambda: filter_pairs(few, settings), lambda: filter_pairs(many, settings)], rounds=size.rounds
    )

    def per_row(of_many: float, of_few: float) -> float:
        return (of_many / size.many) / (of_few / size.few)

    means = f"time per row of {size.many} pairs / time per row of {size.few} pairs"
    yield ratio(
        "filter", "growth of time per row", means, for_many, for_few, quotient=per_row, **asdict(size), kept=kept
    )


def generated_pairs(count: int) -> pa.Table:
    """Distinct pairs: reference translations of the quickstart, numbered.

    Args:
        count: Number of pairs.
    """
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()
    references = [
        (row[ENGLISH], language, text)
        for row in map(json.loads, lines)
        for language, text in row.items()
        if language not in ("id", ENGLISH)
    ]
    rows = []
    for number in range(count):
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
