"""Filters files of any size: read in chunks, measured in threads, judged in a second pass.

The first pass measures what needs one pair at a time and keeps it, with the pairs, in a temporary Parquet file. Between
the passes DuckDB looks at all rows: what length is usual, and which translations several sources share. The second pass
adds those signals, asks a model about the rows that passed so far if there is one, judges, and writes. Both passes hold
a few chunks at a time, and each chunk's result depends on nothing but its rows and what all rows say, so any number of
threads gives the same file.
"""

import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.quality.asking import RowModel, measure_passed
from mlc.quality.deciding import VERDICT_COLUMNS, judge
from mlc.quality.funnel import KEPT
from mlc.quality.measuring import KEPT_FOR_BATCH, measure_rows
from mlc.quality.measuring.batch import NEEDED, TYPES, Batch, batch_signals
from mlc.quality.measuring.tables import for_batch
from mlc.quality.pairs import PairFile, VerdictWriter, coded
from mlc.quality.rows import with_columns
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import QUALITY, TEXT_SIGNALS, Scope, Signal, chosen_signals, rules_of, signals_of
from mlc.stopping import ShouldStop, never, stop_if

MEMORY_LIMIT = "600MB"
"""What DuckDB may hold of what all rows say; the rest goes to the disk."""
UNKNOWN = "unknown"
"""Target language of rows that name none."""

TEXT_RULES = tuple(signal.name for signal in TEXT_SIGNALS)
"""Names of the signals that need no model."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass
class Summary:
    """What became of the rows of a file."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by target language (NLLB code) and first reason, ``kept`` for those that stay."""
    not_identified: Counter[str] = field(default_factory=Counter)
    """Rows with text by target language whose language the identifier does not know."""
    problems: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be used, by what is wrong with them."""

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts.values())

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return sum(count for (_, reason), count in self.counts.items() if reason == KEPT)

    def reasons(self) -> Counter[str]:
        """Rows that were dropped by first reason, over all languages."""
        found: Counter[str] = Counter()
        for (_, reason), count in sorted(self.counts.items(), key=lambda item: item[0][1]):
            if reason != KEPT:
                found[reason] += count
        return found

    def funnel(self) -> pa.Table:
        """Rows and share by language and reason, as :func:`mlc.quality.funnel.funnel` counts them."""
        languages = sorted({language for language, _ in self.counts})
        rows = []
        for language in languages:
            of_language = {reason: count for (code, reason), count in self.counts.items() if code == language}
            total = sum(of_language.values())
            kept = of_language.pop(KEPT, 0)
            ordered = [(KEPT, kept), *sorted(of_language.items(), key=lambda item: (-item[1], item[0]))]
            rows += [(language, reason, count, count / total) for reason, count in ordered]
        names = ("target_language", "reason", "rows", "share")
        types = (pa.string(), pa.string(), pa.int64(), pa.float64())
        return pa.table(
            {
                name: pa.array([row[i] for row in rows], kind)
                for i, (name, kind) in enumerate(zip(names, types, strict=True))
            }
        )


def filter_file(
    pairs: Path | str | PairFile,
    verdicts: Path,
    settings: QualitySettings,
    *,
    signals: Sequence[str] = TEXT_RULES,
    model: RowModel | None = None,
    threads: int = 1,
    on_progress: Callable[[str, int], None] | None = None,
    should_stop: ShouldStop = never,
) -> Summary:
    """Judges every pair of a file.

    Args:
        pairs: A file of pairs or where it lies, see :class:`mlc.quality.pairs.PairFile`.
        verdicts: Where to write; may be the same format or another one. Holds the columns of the input, one for each
            signal, ``quality``, ``keep``, ``reason`` and ``reasons``; rows in the order of the input.
        settings: Thresholds.
        signals: Names of the signals to measure and of the rules that may drop a row.
        model: Measures the signals that need one, for the rows that passed all others.
        threads: Threads to measure with; the result is the same for any number.
        on_progress: Called with ``measured`` or ``judged`` and the number of rows that are done.
        should_stop: Looked at before each chunk, and by the model before each batch. No verdicts are left then, and
            none by any other exception either, as soon as the chunks that are worked at have ended.

    Raises:
        Stopped: Somebody has asked for it.
        UserError: A file cannot be read or written, a column is missing, or no row names a language.
    """
    file = pairs if isinstance(pairs, PairFile) else PairFile(pairs)
    job = _Job(file, settings, signals, model, should_stop)
    told = on_progress or (lambda done, rows: None)
    if not verdicts.parent.is_dir():
        raise UserError(f"The folder {str(verdicts.parent)!r} of the file of verdicts does not exist: make it first.")
    with tempfile.TemporaryDirectory(prefix=".mlc-filter-", dir=verdicts.parent) as folder:
        work = Path(folder) / "measured.parquet"
        # Threads that end give back the memory of the DuckDB that each of them has.
        with (
            ThreadPoolExecutor(max_workers=threads) as pool,
            job.given_up(),
            pq.ParquetWriter(work, job.work_schema, compression="lz4") as writer,
        ):
            for table in _in_order(pool, threads, job.measure, job.read()):
                writer.write_table(table)
                told("measured", len(table))
        with (
            ThreadPoolExecutor(max_workers=threads) as pool,
            job.given_up(),
            job.look_at_all(work, Path(folder), threads),
            VerdictWriter(verdicts, job.schema, job.json_columns) as output,
        ):
            for table in _in_order(pool, threads, job.judge, job.read_back(work)):
                output.write(job.finished(table))
                told("judged", len(table))
    if job.summary.rows and {language for language, _ in job.summary.counts} == {UNKNOWN}:
        problem, _ = job.summary.problems.most_common(1)[0]
        raise UserError(f"No row of {file.table.location!r} can be used: {problem}. Correct the file.")
    return job.summary


class _Job:
    """One file on its way through the filter."""

    def __init__(
        self,
        pairs: PairFile,
        settings: QualitySettings,
        names: Sequence[str],
        model: RowModel | None,
        should_stop: ShouldStop,
    ) -> None:
        self.pairs = pairs
        self.settings = settings
        known = signals_of(settings.more_signals)
        self.signals: Sequence[Signal] = chosen_signals(names, known)
        self.rules = [rule.name for rule in rules_of(known) if rule.name in (*names, QUALITY.name)]
        self.model = model
        self.summary = Summary()
        self._stopped = should_stop
        self._ended_early = False
        self.text_columns = [
            column for signal in self.signals if signal.scope is not Scope.MODEL for column in signal.columns
        ]
        measured = {column.name for signal in self.signals for column in signal.columns}
        self.model_columns = [name for name in (model.columns if model else ()) if name in measured]
        self.batch: Batch | None = None
        made = {*VERDICT_COLUMNS, *(column.name for signal in known for column in signal.columns)}
        kept = [item for item in pairs.schema if item.name not in made]
        self.given = pa.schema(kept)
        self.json_columns = pairs.json_columns & set(self.given.names)
        own = [pa.field(column.name, ARROW[column.kind]) for column in self.text_columns]
        own += [pa.field(name, pa.float64()) for name in self.model_columns]
        verdict = [
            pa.field("quality", pa.float64()),
            pa.field("keep", pa.bool_()),
            pa.field("reason", pa.string()),
            pa.field("reasons", pa.list_(pa.string())),
        ]
        self.schema = pa.schema([*kept, *own, *verdict])
        self.work_schema = pa.schema(
            [
                *(pa.field(f"given_{place}", item.type) for place, item in enumerate(kept)),
                *(pa.field(name, pa.string()) for name in ("source_code", "target_code")),
                pa.field("row", pa.int64()),
                *(pa.field(column.name, ARROW[column.kind]) for column in self.text_columns),
                *(pa.field(name, ARROW[TYPES[name]]) for name in KEPT_FOR_BATCH),
            ]
        )

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Stops what other threads work at when the block ends by an exception, such as Ctrl-C."""
        try:
            yield
        except BaseException:
            self._ended_early = True
            raise

    def _should_stop(self) -> bool:
        return self._ended_early or self._stopped()

    def read(self) -> Iterator[tuple[pa.Table, pa.Array, int]]:
        """Chunks of the file, with the number of their first row."""
        first = 0
        for chunk, problems in self.pairs.chunks():
            yield chunk, problems, first
            first += len(chunk)

    def measure(self, item: tuple[pa.Table, pa.Array, int]) -> pa.Table:
        """First pass: the rows of ``work_schema`` for a chunk."""
        stop_if(self._should_stop)
        chunk, problems, first = item
        rows = coded(chunk, problems, first)
        measured = measure_rows(rows, self.signals)
        columns = {f"given_{place}": chunk[name] for place, name in enumerate(self.given.names)}
        columns |= {name: rows[name] for name in ("source_code", "target_code", "row")}
        columns |= {name: measured[name] for name in measured.column_names}
        return pa.table(
            [
                columns[item.name].cast(item.type) if item.name in columns else pa.nulls(len(chunk), item.type)
                for item in self.work_schema
            ],
            schema=self.work_schema,
        )

    def look_at_all(self, work: Path, folder: Path, threads: int) -> duckdb.DuckDBPyConnection:
        """Between the passes: what all rows say."""
        connection = duckdb.connect(
            str(folder / "batch.duckdb"),
            config={"threads": threads, "memory_limit": MEMORY_LIMIT, "temp_directory": str(folder / "spill")},
        )
        present = [name for name in NEEDED if name in self.work_schema.names]
        absent = [f"NULL::{TYPES[name]} AS {name}" for name in NEEDED if name not in present]
        source = str(work).replace("'", "''")
        connection.execute(
            f"CREATE TEMP VIEW measured AS SELECT {', '.join([*present, *absent])} FROM read_parquet('{source}')"
        )
        self.batch = Batch.of(connection, self.settings.length_batch_rows)
        return connection

    def read_back(self, work: Path) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Chunks of the first pass, with what the whole says of their rows."""
        assert self.batch is not None
        with pq.ParquetFile(work) as file:
            for number in range(file.num_row_groups):
                chunk = file.read_row_group(number)
                if len(chunk):
                    first = chunk["row"][0].as_py()
                    yield chunk, self.batch.collapsed(first, first + len(chunk) - 1)

    def judge(self, item: tuple[pa.Table, pa.Table]) -> pa.Table:
        """Second pass: a chunk with all signals and verdicts."""
        stop_if(self._should_stop)
        chunk, collapsed = item
        assert self.batch is not None
        late = batch_signals(for_batch(chunk), self.batch.centres, collapsed)
        late = late.select([name for name in late.column_names if name in chunk.column_names])
        chunk = with_columns(chunk, late)
        if self.model_columns:
            chunk = self._ask_model(chunk)
        return with_columns(chunk, judge(chunk.drop_columns(self._given_columns()), self.settings, self.rules))

    def finished(self, table: pa.Table) -> pa.Table:
        """The columns of the output, and the row in the summary."""
        self._count(table)
        names = {name: f"given_{place}" for place, name in enumerate(self.given.names)}
        return pa.table([table[names.get(item.name, item.name)] for item in self.schema], names=self.schema.names)

    def _ask_model(self, chunk: pa.Table) -> pa.Table:
        """Adds the columns of the model, NULL for rows that the other rules drop."""
        assert self.model is not None
        verdicts = judge(chunk.drop_columns(self._given_columns()), self.settings, self.rules)
        names = [name for name in ("source", "translation", "back_translation") if name in self.given.names]
        columns = {name: chunk[f"given_{self.given.names.index(name)}"] for name in names}
        pairs = pa.table({**columns, "source_code": chunk["source_code"], "target_code": chunk["target_code"]})
        measured = measure_passed(self.model, pairs, verdicts["keep"], self._should_stop)
        return with_columns(chunk, measured.select(self.model_columns))

    def _given_columns(self) -> list[str]:
        return [f"given_{place}" for place in range(len(self.given))]

    def _count(self, table: pa.Table) -> None:
        counted = pa.table(
            {
                "language": pc.fill_null(table["target_code"], UNKNOWN),
                "reason": pc.if_else(table["keep"], KEPT, table["reason"]),
                "problem": table["signal_problem"]
                if "signal_problem" in table.column_names
                else pa.nulls(len(table), pa.string()),
                "unknown": pc.and_(
                    pc.is_valid(table["signal_language_predicted"]), pc.is_null(table["signal_language_expected"])
                )
                if "signal_language_expected" in table.column_names
                else pa.array(np.zeros(len(table), bool)),
            }
        )
        for row in counted.group_by(counted.column_names).aggregate([([], "count_all")]).to_pylist():
            self.summary.counts[row["language"], row["reason"]] += row["count_all"]
            if row["unknown"]:
                self.summary.not_identified[row["language"]] += row["count_all"]
            if row["problem"]:
                self.summary.problems[row["problem"]] += row["count_all"]


ARROW: Mapping[str, pa.DataType] = {
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
}
"""Arrow's types by those of DuckDB."""


def _in_order(
    pool: ThreadPoolExecutor, threads: int, work: Callable[[_Given], _Made], items: Iterable[_Given]
) -> Iterator[_Made]:
    """Results in the order of the items; no more items are taken than threads have work."""
    waiting: deque[Future[_Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
