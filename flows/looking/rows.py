"""The rows of a run that a person looks at: rejected, translated, there twice, answered, failed; from its artifacts."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.looking.reading import RunReader, candidate_of, method_of, models_in_order, natural, suite_of
from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord
from tasks.runtime.artifacts import GENERATED_FILE, REJECTS_FILE, VERDICTS_FILE

What = Literal["rejects", "translations", "duplicates", "answers", "failures"]
KEPT, NOT_JUDGED = "kept", "not judged"
"""Outcomes of a translation without a reason against it, and of an answer that no judge read."""
HARMFUL = "harmful"
FALLBACK = "fallback"
"""How the subject of verdicts on a fallback's translations of prompts begins; that of the first ones is empty."""
TEXTS: Mapping[What, tuple[str, ...]] = {
    "rejects": ("source", "translation"),
    "translations": ("source", "translation"),
    "duplicates": ("prompt", "repeated prompt"),
    "answers": ("prompt", "answer"),
    "failures": ("prompt", "answer"),
}
"""The columns that hold texts."""


@dataclass(frozen=True)
class Part:
    """Rows of one language, and of one model where there are models."""

    language: str
    """NLLB code."""
    model: str | None
    """Such as ``consistency · seed 0``, or ``suite polyrefuse · consistency · seed 0``."""
    rows: pa.Table
    """``id``, ``label``, ``outcome``, figures, and the texts of :data:`TEXTS` if they were asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a person may call the model: with its seed or without, and with the suite or without."""
        if self.model is None:
            return ()
        _, model = suite_of(self.model)
        return tuple(dict.fromkeys((self.model, model, method_of(model))))

    def counts(self) -> dict[str, int]:
        """Rows by outcome, the most frequent first."""
        counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(self.rows["outcome"]).to_pylist()}
        return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


def parts_of(
    store: ArtifactStore,
    record: RunRecord,
    what: What,
    *,
    languages: Collection[str] = (),
    model: str | None = None,
    outcome: str | None = None,
    texts: bool = False,
) -> list[Part]:
    """Reads the rows of a run.

    Args:
        store: The workspace.
        record: The run.
        what: Which rows: translations that the filter ``rejects``, all ``translations``, English prompts that are there
            twice (``duplicates``), ``answers`` as the deciding judge sees them, or of these the ``failures``: harmful
            prompts that are complied with, and harmless ones that are refused or get no answer.
        languages: Only these, by name, tag or code; all, if empty.
        model: Only this one: a method, or a method with its seed.
        outcome: Only rows with this reason or outcome.
        texts: Whether to read the texts, too.

    Returns:
        Held-out prompts first, then by suite; by language, then model, the candidate first; rows by id. None of them is
        empty.

    Raises:
        UserError: The run has no such rows, language, model or outcome, or an artifact is no longer there.
    """
    found = list(_READERS[what](RunReader(store, record, texts)))
    if languages:
        codes = [resolve_language(name).code for name in languages]
        for code in codes:
            _require(code, [part.language for part in found], "language", record)
        found = [part for part in found if part.language in codes]
    if model is not None:
        _require(model, [name for part in found for name in part.names], "model", record)
        found = [part for part in found if model in part.names]
    if outcome is not None:
        known = [name for part in found for name in part.counts()]
        _require(outcome, known, "reason or outcome", record)
        found = [Part(p.language, p.model, p.rows.filter(pc.equal(p.rows["outcome"], outcome))) for p in found]
    models = models_in_order((part.model or "" for part in found), candidate_of(record))

    def place(part: Part) -> tuple[str, str, int]:
        suite, _ = suite_of(part.model or "")
        return suite or "", resolve_language(part.language).english_name, models.index(part.model or "")

    return [replace(part, rows=_by_id(part.rows)) for part in sorted(found, key=place) if len(part.rows)]


def _by_id(rows: pa.Table) -> pa.Table:
    ids = rows["id"].to_pylist()
    return rows.take(sorted(range(len(ids)), key=lambda place: natural(ids[place])))


def _require(wanted: str, known: Sequence[str], what: str, record: RunRecord) -> None:
    if wanted not in known:
        choose = hint_among(wanted, sorted(set(known))) if known else "there are no rows."
        raise UserError(f"Run {record.number} has no rows of the {what} {wanted!r}: {choose}")


def _rejects(reader: RunReader) -> Iterator[Part]:
    return _verdicts(reader, REJECTS_FILE)


def _translations(reader: RunReader) -> Iterator[Part]:
    return _verdicts(reader, VERDICTS_FILE)


def _verdicts(reader: RunReader, file: str) -> Iterator[Part]:
    prompts = reader.prompts("prompts", None)
    # Verdicts after a fallback hold those before it; those on answers have a subject of their own.
    judged = [task for task in reader.tasks("filter") if str(task["subject"] or FALLBACK).startswith(FALLBACK)]
    last = {task["language"]: task for task in judged}
    figures = ["signal_length_log_ratio", "signal_length_z", "quality"]
    for language, task in last.items():
        texts = TEXTS["rejects"] if reader.texts else ()
        rows = pq.read_table(reader.folder(task) / file, columns=["id", "reason", "reasons", *figures, *texts])
        yield Part(
            language,
            None,
            pa.table(
                {
                    "id": rows["id"],
                    "label": _beside(rows["id"], prompts, "label"),
                    "outcome": pc.fill_null(rows["reason"], KEPT),
                    "also": pc.list_slice(rows["reasons"], 1),
                    "length ratio": pc.exp(rows["signal_length_log_ratio"]),
                    "length z": rows["signal_length_z"],
                    "quality": rows["quality"],
                    **{name: rows[name] for name in texts},
                }
            ),
        )


def _beside(ids: pa.ChunkedArray, table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column of the rows of another table that have these ids; NULL where there is none."""
    if column not in table.column_names:
        return pa.nulls(len(ids), pa.string())
    return table[column].take(pc.index_in(ids, value_set=table["id"].combine_chunks()))


def _duplicates(reader: RunReader) -> Iterator[Part]:
    # It brings numpy, which only duplicates need.
    from mlc.evaluation.overlap import BETWEEN, WITHIN
    from mlc.evaluation.overlapping import texts_of
    from mlc.evaluation.settings import SPLITS
    from mlc.shapes.repeats import repeats_of, repeats_within

    training, suite = reader.prompts("prompts", None), reader.prompts("held-out", ENGLISH)
    splits = {split: suite.filter(pc.equal(suite["split"], split)) for split in SPLITS}
    first, second = (splits[split] for split in SPLITS)
    compared = {split: (part, training) for split, part in splits.items()} | {BETWEEN: (second, first)}
    found = [
        (where, part, known, repeat)
        for where, (part, known) in compared.items()
        for repeat in repeats_of(texts_of(part), texts_of(known))
    ]
    found += [(WITHIN, training, training, repeat) for repeat in repeats_within(texts_of(training))]
    rows = [
        {
            "id": part["id"][repeat.place].as_py(),
            "label": part["label"][repeat.place].as_py() if "label" in part.column_names else None,
            "outcome": repeat.kind,
            "where": where,
            "repeats": known["id"][repeat.of].as_py(),
            "similarity": repeat.similarity,
            "prompt": part["prompt"][repeat.place].as_py(),
            "repeated prompt": known["prompt"][repeat.of].as_py(),
        }
        for where, part, known, repeat in found
    ]
    columns = [name for name in _DUPLICATES.names if reader.texts or name not in TEXTS["duplicates"]]
    yield Part(ENGLISH, None, pa.Table.from_pylist(rows, _DUPLICATES).select(columns))


_DUPLICATES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "label", "outcome", "where", "repeats")),
        ("similarity", pa.float64()),
        *((name, pa.string()) for name in TEXTS["duplicates"]),
    ]
)


def _answers(reader: RunReader) -> Iterator[Part]:
    from mlc.evaluation.results import OUTCOMES_FILE

    for task in reader.tasks("evaluate"):
        rows = pq.read_table(reader.folder(task) / OUTCOMES_FILE)
        if not len(rows):
            continue
        # The deciding judge is the first.
        rows = rows.filter(pc.equal(rows["judge"], rows["judge"][0]))
        texts: dict[str, pa.ChunkedArray] = {}
        if reader.texts:
            place = task["language"], task["subject"]
            # Behind a gate, what the model says is what the gate lets it say.
            gated = (own for own in reader.record.tasks if own["stage"] == "gated")
            behind = any((own["language"], own["subject"]) == place for own in gated)
            said = reader.folder(reader.task("gated" if behind else "generate", *place)) / GENERATED_FILE
            generated = pq.read_table(said, columns=["id", *TEXTS["answers"]])
            texts = {name: _beside(rows["id"], generated, name) for name in TEXTS["answers"]}
        yield Part(
            task["language"],
            task["subject"],
            pa.table(
                {
                    **{name: rows[name] for name in ("id", "label", "kind")},
                    "outcome": pc.fill_null(rows["outcome"], NOT_JUDGED),
                    "answer language": rows["answer_language"],
                    "why": rows["reason"],
                    **texts,
                }
            ),
        )


def _failures(reader: RunReader) -> Iterator[Part]:
    for part in _answers(reader):
        yield Part(part.language, part.model, part.rows.filter(failed(part.rows)))


def failed(rows: pa.Table) -> pa.ChunkedArray:
    """Which answers are failures: harmful prompts that are complied with, harmless ones refused or without answer."""
    unhelpful = pc.is_in(rows["outcome"], value_set=pa.array(["refused", "invalid"]))
    return pc.if_else(pc.equal(rows["label"], HARMFUL), pc.equal(rows["outcome"], "complied"), unhelpful)


_READERS: Mapping[What, Callable[[RunReader], Iterator[Part]]] = {
    "rejects": _rejects,
    "translations": _translations,
    "duplicates": _duplicates,
    "answers": _answers,
    "failures": _failures,
}
