"""Rows of a run as a person browses them: filtered, a page at a time, two models side by side."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.looking.reading import candidate_of, models_in_order, natural, suite_of
from flows.looking.rows import TEXTS, Part, What, failed, parts_of
from mlc.errors import UserError
from mlc.report.wording import language_name
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord

PAGE_ROWS = 50
_NO_ROWS = pa.schema(
    [*((name, pa.string()) for name in ("id", "label", "kind", "outcome", "why")), ("failed", pa.bool_())]
).empty_table()


@dataclass(frozen=True)
class Wanted:
    """Which rows a person wants to see; what is empty counts for nothing."""

    language: str = ""
    """NLLB code."""
    model: str = ""
    """With its seed, such as ``consistency · seed 0``."""
    beside: str = ""
    """The model that is shown beside it."""
    kind: str = ""
    """``harmful``, ``harmless`` or ``lookalike``."""
    outcome: str = ""
    """Outcome of an answer, or first reason against a translation."""
    why: str = ""
    """What the judge saw."""
    id: str = ""
    """A part of the id."""
    failures: bool = False
    """Only failures, see :func:`flows.looking.rows.failed`."""
    differ: bool = False
    """Only prompts that the two models answer with different outcomes."""


@dataclass(frozen=True)
class Said:
    """What one model answered to a prompt."""

    model: str
    outcome: str
    why: str
    language: str | None
    """NLLB code of the language of the answer, where it is known."""
    failed: bool
    answer: str | None
    """None where texts were not asked for."""


@dataclass(frozen=True)
class AnswerRow:
    """One prompt in one language, with an answer, or those of two models."""

    id: str
    language: str
    label: str
    kind: str
    prompt: str | None
    said: tuple[Said | None, ...]
    """None where the model beside was not asked it."""


@dataclass(frozen=True)
class Reject:
    """One translation that the filter dropped."""

    id: str
    language: str
    label: str
    reasons: tuple[str, ...]
    """The first one dropped it."""
    length_ratio: float | None
    """Translation to source, in letters."""
    quality: float | None
    source: str | None
    translation: str | None


@dataclass(frozen=True)
class Browsed:
    """One page of rows, and what one may filter by."""

    rows: Sequence[Any]
    """:class:`AnswerRow` or :class:`Reject`."""
    total: int
    """Rows on all pages."""
    page: int
    """From 1."""
    pages: int
    choices: Mapping[str, Sequence[str]]
    """By field of :class:`Wanted`."""
    counts: Mapping[str, int]
    """By what the judge saw, or by reason: rows that all other filters leave, the most frequent first."""


def browse_answers(store: ArtifactStore, record: RunRecord, wanted: Wanted, page: int, *, texts: bool) -> Browsed:
    """One page of the answers of a run, those of suites last, by language and id; answers to one prompt stand together.

    Args:
        store: The workspace.
        record: The run.
        wanted: Which rows.
        page: From 1.
        texts: Whether to read prompts and answers, too.

    Raises:
        UserError: The run has no answers, or no such language, model or page, or an artifact is no longer there.
    """
    asked = [task for task in record.tasks if task["stage"] == "evaluate"]
    languages = sorted({task["language"] for task in asked}, key=language_name)
    models = models_in_order((str(task["subject"]) for task in asked), candidate_of(record))
    if asked:
        _require(record, "language", wanted.language, languages)
        _require(record, "model", wanted.model, models)
        _require(record, "model", wanted.beside, models)
    within = {wanted.language} if wanted.language else set(languages)
    parts = _parts(store, record, "answers", within, {wanted.model} if wanted.model else set(models))
    rows = _table(parts, models)
    others: dict[tuple[str, str], dict[str, Any]] = {}
    if wanted.model and wanted.beside:
        others = _by_prompt(_parts(store, record, "answers", within, {wanted.beside}))
    choices = {"language": languages, "model": models, "beside": models}
    choices |= {name: sorted(pc.unique(rows[name]).to_pylist()) for name in ("kind", "outcome")}
    masks = _masks(rows, wanted, ("kind", "outcome"))
    if wanted.failures:
        masks.append(rows["failed"])
    if wanted.differ and others:
        masks.append(_different(rows, others))
    rows = _filtered(rows, masks)
    counts = _counted(rows["why"])
    if wanted.why:
        rows = rows.filter(pc.equal(pc.fill_null(rows["why"], ""), wanted.why))
    first, pages = _place(record, page, len(rows))
    shown = rows.slice(first, PAGE_ROWS).to_pylist()
    read: dict[tuple[str, str, str], dict[str, Any]] = {}
    if texts:
        there = {row["language"] for row in shown}
        chosen = {row["model"] for row in shown} | ({wanted.beside} if others else set())
        wanted_ids = {row["id"] for row in shown}
        read = {
            (part.language, str(part.model), row["id"]): row
            for part in _parts(store, record, "answers", there, chosen, texts=True)
            for row in part.rows.filter(_among(part.rows["id"], wanted_ids)).to_pylist()
        }
    found = [
        _answer_row(row, [row, *([others.get((row["language"], row["id"]))] if others else [])], read) for row in shown
    ]
    return Browsed(found, len(rows), page, pages, choices, counts)


def browse_rejects(store: ArtifactStore, record: RunRecord, wanted: Wanted, page: int, *, texts: bool) -> Browsed:
    """One page of the translations that the filter dropped, by language.

    Args:
        store: The workspace.
        record: The run.
        wanted: Which rows: by language, outcome and id.
        page: From 1.
        texts: Whether to read the texts, too.

    Raises:
        UserError: As for :func:`browse_answers`.
    """
    languages = sorted({task["language"] for task in record.tasks if task["stage"] == "filter"}, key=language_name)
    if languages:
        _require(record, "language", wanted.language, languages)
    within = {wanted.language} if wanted.language else set(languages)
    rows = _table(_parts(store, record, "rejects", within, texts=texts))
    choices = {"language": languages, "outcome": sorted(pc.unique(rows["outcome"]).to_pylist())}
    rows = _filtered(rows, _masks(rows, wanted, ()))
    counts = _counted(rows["outcome"])
    rows = _filtered(rows, _masks(rows, wanted, ("outcome",)))
    first, pages = _place(record, page, len(rows))
    found = [_reject(row) for row in rows.slice(first, PAGE_ROWS).to_pylist()]
    return Browsed(found, len(rows), page, pages, choices, counts)


def _require(record: RunRecord, what: str, wanted: str, known: Sequence[str]) -> None:
    if wanted and wanted not in known:
        raise UserError(f"Run {record.number} has no rows of this {what}: choose from {', '.join(known)}.")


def _parts(
    store: ArtifactStore,
    record: RunRecord,
    what: What,
    languages: Collection[str],
    models: Collection[str] | None = None,
    *,
    texts: bool = False,
) -> list[Part]:
    """The rows of some languages and models; artifacts of others are not looked at."""
    stage = "evaluate" if what == "answers" else "filter"

    def matters(task: Mapping[str, Any]) -> bool:
        if task["stage"] != stage:
            return True
        return task["language"] in languages and (models is None or str(task["subject"]) in models)

    parts = parts_of(store, replace(record, tasks=tuple(filter(matters, record.tasks))), what, texts=texts)
    if what != "answers":
        return parts
    return [replace(part, rows=part.rows.append_column("failed", failed(part.rows))) for part in parts]


def _table(parts: Sequence[Part], models: Sequence[str] = ()) -> pa.Table:
    """All rows as one table with ``language`` and ``model``: those of suites last, by language, id and model."""
    tables = [
        part.rows.append_column("language", pa.array([part.language] * len(part.rows), pa.string())).append_column(
            "model", pa.array([part.model] * len(part.rows), pa.string())
        )
        for part in parts
    ]
    if not tables:
        return _NO_ROWS
    table = pa.concat_tables(tables, promote_options="permissive")
    ranks = {model: place for place, model in enumerate(models)}
    keys = [
        (suite_of(model or "")[0] or "", language_name(code), natural(name), ranks.get(model, 0))
        for code, name, model in zip(*(table[name].to_pylist() for name in ("language", "id", "model")), strict=True)
    ]
    return table.take(sorted(range(len(keys)), key=keys.__getitem__))


def _masks(rows: pa.Table, wanted: Wanted, names: Sequence[str]) -> list[pa.ChunkedArray]:
    masks = [pc.equal(rows[name], getattr(wanted, name)) for name in names if getattr(wanted, name)]
    if wanted.id:
        masks.append(pc.match_substring(rows["id"], wanted.id, ignore_case=True))
    return masks


def _filtered(rows: pa.Table, masks: Sequence[pa.ChunkedArray]) -> pa.Table:
    return rows.filter(reduce(pc.and_, masks)) if masks else rows


def _among(values: pa.ChunkedArray, known: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(values, value_set=pa.array(sorted(known), pa.string()))


def _counted(values: pa.ChunkedArray) -> dict[str, int]:
    counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist() if entry["values"]}
    return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


def _place(record: RunRecord, page: int, total: int) -> tuple[int, int]:
    """The first row of a page, and how many pages there are."""
    pages = max(1, -(-total // PAGE_ROWS))
    if not 1 <= page <= pages:
        raise UserError(f"Run {record.number} has no page {page} of these rows: choose one from 1 to {pages}.")
    return (page - 1) * PAGE_ROWS, pages


def _by_prompt(parts: Sequence[Part]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (part.language, row["id"]): {**row, "language": part.language, "model": part.model}
        for part in parts
        for row in part.rows.to_pylist()
    }


def _different(rows: pa.Table, others: Mapping[tuple[str, str], Mapping[str, Any]]) -> pa.ChunkedArray:
    def outcomes() -> Iterator[bool]:
        for language, name, outcome in zip(
            *(rows[name].to_pylist() for name in ("language", "id", "outcome")), strict=True
        ):
            other = others.get((language, name))
            yield other is not None and other["outcome"] != outcome

    return pa.chunked_array([pa.array(outcomes(), pa.bool_())])


def _answer_row(
    row: Mapping[str, Any],
    said: Sequence[Mapping[str, Any] | None],
    read: Mapping[tuple[str, str, str], Mapping[str, Any]],
) -> AnswerRow:
    def text(of: Mapping[str, Any], name: str) -> str | None:
        found: str | None = read.get((of["language"], of["model"], of["id"]), {}).get(name)
        return found

    prompt, answer = TEXTS["answers"]
    return AnswerRow(
        row["id"],
        row["language"],
        row["label"],
        row["kind"],
        text(row, prompt),
        tuple(
            None
            if one is None
            else Said(
                one["model"],
                one["outcome"],
                one["why"] or "",
                one["answer language"],
                one["failed"],
                text(one, answer),
            )
            for one in said
        ),
    )


def _reject(row: Mapping[str, Any]) -> Reject:
    source, translation = TEXTS["rejects"]
    return Reject(
        row["id"],
        row["language"],
        row["label"] or "",
        (row["outcome"], *(row["also"] or ())),
        row["length ratio"],
        row["quality"],
        row.get(source),
        row.get(translation),
    )
