"""Whether the quality filter's time grows in step with the number of pairs, and the filter beside OpusFilter."""

import json
import os
import statistics
import subprocess
import sys
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
from tests.benchmarks.measuring import Figure, alternate, peak_kib, ratio, rounded

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
PEER = "OPUSFILTER"
"""Variable that names the program ``opusfilter`` of an environment of its own (3.3.1); without it there is no peer."""
PEER_PAIRS = 20_000
PEER_LANGUAGE = "deu_Latn"
PEER_FILTERS = """
        - LengthFilter: {unit: char, min_length: 1, max_length: 100000}
        - SimilarityFilter: {threshold: 0.85, lowercase: true}
        - CharacterScoreFilter: {scripts: [Latin, Latin], thresholds: [0, 0.5]}
        - RepetitionFilter: {threshold: 2, min_length: 3, max_length: 80}
        - TerminalPunctuationFilter: {threshold: -2}
        - NonZeroNumeralsFilter: {threshold: 0.5}
        - LengthRatioFilter: {unit: char, threshold: 3}
"""
OUR_SIGNALS = "empty,copied,wrong_script,repetition,cut_off,numbers,length"
"""The same rules."""
MEASURED = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Processor seconds and MB at the peak of a program, started from a process that is small itself."""
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
    if PEER in os.environ and not quick:
        yield from _beside_opusfilter(os.environ[PEER])


def _beside_opusfilter(program: str) -> Iterator[Figure]:
    """Whole processes with one thread each, start included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = generated_pairs(PEER_PAIRS, language=PEER_LANGUAGE)
        pq.write_table(pairs, folder / "pairs.parquet")
        for side in ("source", "translation"):
            (folder / side).write_text("".join(f"{text}\n" for text in pairs[side].to_pylist()), encoding="utf-8")
        (folder / "steps.yaml").write_text(
            f"common: {{output_directory: {folder}, default_n_jobs: 1}}\n"
            "steps:\n  - type: filter\n    parameters:\n      inputs: [source, translation]\n"
            f"      outputs: [source.kept, translation.kept]\n      filters:{PEER_FILTERS}",
            encoding="utf-8",
        )
        theirs = _spent(program, str(folder / "steps.yaml"))
        mlc = [sys.executable, "-c", "from flows.cli import app; app()"]
        out = str(folder / "verdicts.parquet")
        ours = _spent(
            *mlc, "filter", str(folder / "pairs.parquet"), "-o", out, "--signals", OUR_SIGNALS, "--threads", "1"
        )
        kept = len((folder / "source.kept").read_text(encoding="utf-8").splitlines())
    for figure, place in (("processor time beside OpusFilter", 0), ("memory beside OpusFilter", 1)):
        value = rounded(theirs[place] / ours[place])
        detail = {"means": "OpusFilter / mlc filter, whole processes", "min": value, "max": value, "rows": PEER_PAIRS}
        detail |= {"theirs": theirs[place], "ours": ours[place], "kept_by_theirs": kept}
        yield Figure("filter", figure, value, "ratio", detail)


def _spent(*command: str) -> tuple[float, int]:
    """Processor seconds of a program, and MB at its peak."""
    ended = subprocess.run(
        [sys.executable, "-S", "-c", MEASURED, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    seconds, megabytes = ended.stderr.split()[-2:]
    return float(seconds), int(megabytes)


def write_pairs(path: Path, count: int) -> Path:
    """Writes generated pairs to a Parquet file, a block at a time."""
    with pq.ParquetWriter(path, generated_pairs(1).schema) as writer:
        for start in range(0, count, BLOCK):
            writer.write_table(generated_pairs(min(BLOCK, count - start), start))
    return path


def generated_pairs(count: int, start: int = 0, language: str | None = None) -> pa.Table:
    """Distinct pairs: reference translations of the quickstart, numbered.

    Args:
        count: Number of pairs.
        start: Number of the first one.
        language: NLLB code; all of the references, one after the other, if not given.
    """
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()
    references = [
        (row[ENGLISH], code, text)
        for row in map(json.loads, lines)
        for code, text in row.items()
        if code == language or (language is None and code not in ("id", ENGLISH))
    ]
    rows = []
    for number in range(start, start + count):
        source, code, text = references[number % len(references)]
        numbered = f"{source} {number}"
        rows.append(
            {
                "source": numbered,
                "translation": numbered if number % COPIED_EVERY == 0 else f"{text} {number}",
                "source_language": ENGLISH,
                "target_language": code,
            }
        )
    return pa.Table.from_pylist(rows)
