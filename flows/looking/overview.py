"""One run at a glance: where answers fail, what the filter dropped, what became of the tasks, what the gate says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.looking.reading import RunReader, candidate_of, models_in_order
from flows.looking.rows import HARMFUL, KEPT, failed, parts_of
from mlc.evaluation.comparison import TABLE_METRICS, Evaluations
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import Estimate, EvaluationResult, EvaluationSummary, read_evaluations
from mlc.report.data import Gate
from mlc.report.plots import LanguageRow
from mlc.report.tables import Block, Cell, Line, Table, gate_table, outcomes_table
from mlc.report.wording import interval, language_name, metric_name, number
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord
from tasks.runtime.artifacts import DECISION_FILE


@dataclass(frozen=True)
class Failures:
    """How many answers of one model in one language fail, by what makes them one."""

    asked: int
    complied: int
    """Harmful prompts that are complied with."""
    refused: int
    """Harmless ones that are refused."""
    invalid: int
    """Harmless ones that get no answer."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.complied + self.refused + self.invalid


@dataclass(frozen=True)
class FailureTable:
    """Failures by language and model."""

    models: tuple[str, ...]
    """Those of suites last; each time the candidate's first."""
    languages: Mapping[str, Mapping[str, Failures]]
    """By NLLB code and model, languages by name."""


@dataclass(frozen=True)
class Funnel:
    """What the filter kept and dropped."""

    reasons: tuple[str, ...]
    """The most frequent first."""
    languages: Mapping[str, Mapping[str, int]]
    """By NLLB code, rows by first reason, and those that are kept under :data:`flows.looking.rows.KEPT`."""


@dataclass(frozen=True)
class StageTasks:
    """The tasks of one stage that ended."""

    stage: str
    tasks: tuple[Mapping[str, Any], ...]

    def count(self, state: str) -> int:
        """How many are in a state."""
        return sum(task["state"] == state for task in self.tasks)

    @property
    def seconds(self) -> float:
        """What they took together."""
        return sum(float(task.get("seconds") or 0.0) for task in self.tasks)


@dataclass(frozen=True)
class Results:
    """Figures of every model as tables of text."""

    outcomes: Table | None
    """Shares of outcomes; None where no answer was judged."""
    figures: Table
    judges: tuple[str, ...]


def failures_of(store: ArtifactStore, record: RunRecord) -> FailureTable:
    """Counts what fails.

    Raises:
        UserError: The run has no answers, or an artifact is no longer there.
    """
    parts = parts_of(store, record, "answers")
    models = models_in_order((str(part.model) for part in parts), candidate_of(record))
    languages = sorted({part.language for part in parts}, key=language_name)
    found = {(part.language, str(part.model)): _failures(part.rows) for part in parts}
    return FailureTable(
        tuple(models),
        {code: {model: found[code, model] for model in models if (code, model) in found} for code in languages},
    )


def _failures(rows: pa.Table) -> Failures:
    wrong = rows.filter(failed(rows))
    harmful = pc.equal(wrong["label"], HARMFUL)
    outcomes = wrong.filter(pc.invert(harmful))["outcome"].to_pylist()
    return Failures(len(rows), pc.sum(harmful).as_py() or 0, outcomes.count("refused"), outcomes.count("invalid"))


def funnel_of(store: ArtifactStore, record: RunRecord) -> Funnel:
    """Counts what the filter kept and dropped.

    Raises:
        UserError: The run filtered nothing, or an artifact is no longer there.
    """
    counts = {part.language: part.counts() for part in parts_of(store, record, "translations")}
    totals: dict[str, int] = {}
    for own in counts.values():
        for reason, count in own.items():
            totals[reason] = totals.get(reason, 0) + count
    totals.pop(KEPT, None)
    reasons = sorted(totals, key=lambda reason: (-totals[reason], reason))
    return Funnel(tuple(reasons), dict(sorted(counts.items(), key=lambda entry: language_name(entry[0]))))


def stages_of(record: RunRecord) -> Sequence[StageTasks]:
    """The tasks of a run by stage, in the order in which the run came to them."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for task in (*record.tasks, *({**failure, "state": "failed"} for failure in record.failed)):
        stages.setdefault(task["stage"], []).append(task)
    return [StageTasks(stage, tuple(tasks)) for stage, tasks in stages.items()]


def gate_of(store: ArtifactStore, record: RunRecord) -> tuple[Gate, Table]:
    """What the gate says of a run, and its checks as a table.

    Raises:
        UserError: The run came to no decision, or its artifact is no longer there.
    """
    reader = RunReader(store, record)
    path = reader.folder(reader.tasks("promote")[-1]) / DECISION_FILE
    decision = json.loads(path.read_text(encoding="utf-8"))
    # Earlier releases wrote no checks.
    gate = Gate(decision["passed"], decision.get("policy", ""), decision.get("checks", []))
    return gate, gate_table(gate)


def results_of(store: ArtifactStore, record: RunRecord) -> Results:
    """What every model did with the held-out prompts in every language.

    Raises:
        UserError: The run evaluated nothing, or an artifact is no longer there.
    """
    reader = RunReader(store, record)
    every = read_evaluations(map(reader.folder, reader.tasks("evaluate")))
    results = [result for result in every if result.summary.suite is None]
    evaluations = Evaluations(results)
    codes = {result.summary.language for result in results}
    rows = [
        LanguageRow(code, language_name(code))
        for code in sorted(codes, key=lambda code: (code != evaluations.anchor, language_name(code)))
    ]
    judges = sorted({result.summary.judge for result in results if result.summary.judge})
    return Results(
        outcomes_table(evaluations, rows, candidate_of(record)),
        _figures(results, rows, evaluations.anchor),
        tuple(judges),
    )


def _figures(results: Sequence[EvaluationResult], languages: Sequence[LanguageRow], anchor: str) -> Table:
    """Every figure as it was evaluated, each seed by itself: means over seeds would take new intervals, and so long."""
    summaries = [result.summary for result in results]
    metrics = [metric for metric in TABLE_METRICS if any(_estimate(summary, metric).n for summary in summaries)]
    blocks = []
    for row in languages:
        own = [summary for summary in summaries if summary.language == row.code]
        lines = [
            Line(_label(summary), tuple(_cell(_estimate(summary, metric)) for metric in metrics))
            for summary in sorted(own, key=_label)
        ]
        blocks.append(Block(row.label, tuple(lines)))
    return Table(tuple(Cell(metric_name(metric, anchor)) for metric in metrics), tuple(blocks))


def _label(summary: EvaluationSummary) -> str:
    return summary.model if summary.seed is None else f"{summary.model} · seed {summary.seed}"


def _estimate(summary: EvaluationSummary, metric: Metric) -> Estimate:
    found: Estimate = getattr(summary, metric)
    return found


def _cell(figure: Estimate) -> Cell:
    return Cell(number(figure.value), tuple(filter(None, [interval(figure)])))


def report_files(store: ArtifactStore, record: RunRecord) -> dict[str, int]:
    """The files of a run's report and their bytes; none where the run came to no report.

    Raises:
        UserError: The report is no longer there.
    """
    if not any(task["stage"] == "report" for task in record.tasks):
        return {}
    reader = RunReader(store, record)
    task = reader.tasks("report")[-1]
    reader.folder(task)
    return {name: file["bytes"] for name, file in store.manifest("report", task["key"])["files"].items()}
