"""The figures as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import fields

from mlc.evaluation.judges.judge import OUTCOMES
from mlc.evaluation.results import Estimate, EvaluationResult, EvaluationSummary
from mlc.report.data import FunnelRow
from mlc.report.prompts import PromptRow
from mlc.report.wording import language_name
from mlc.store.plain import as_cell, without_nan

_PARTS = tuple(field.name for field in fields(Estimate))


def results_csv(results: Sequence[EvaluationResult]) -> str:
    """One row for each model, seed and language, in the order given.

    A figure with an interval takes four columns: ``auroc``, ``auroc_low``, ``auroc_high``, ``auroc_n``. What is
    missing is empty. Answers are counted by judge and outcome: ``answers_openings_refused``. Lines end in a line feed.
    """
    judges = sorted({judge for result in results for judge in result.summary.answers})
    rows = [dict(_flat(result.summary, judges)) for result in results]
    columns = list(rows[0]) if rows else []
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def outcomes_csv(rows: Sequence[PromptRow]) -> str:
    """One row for each judged answer, see :class:`mlc.report.prompts.PromptRow`; lines end in a line feed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(PromptRow._fields)
    writer.writerows(map(_text, row) for row in rows)
    return buffer.getvalue()


def funnel_csv(rows: Sequence[FunnelRow]) -> str:
    """One row for each language and reason: ``language``, ``reason``, ``rows``, ``share``; lines end in a line feed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(FunnelRow._fields)
    writer.writerows((as_cell(row.language), as_cell(row.reason), row.rows, _text(row.share)) for row in sorted(rows))
    return buffer.getvalue()


def _flat(summary: EvaluationSummary, judges: Sequence[str]) -> Iterator[tuple[str, str]]:
    for field in fields(summary):
        value = getattr(summary, field.name)
        if isinstance(value, Estimate):
            for part in _PARTS:
                name = field.name if part == "value" else f"{field.name}_{part}"
                yield name, _text(getattr(value, part))
        elif isinstance(value, dict):
            for judge in judges:
                for outcome in OUTCOMES:
                    count = value[judge].get(outcome, 0) if judge in value else None
                    yield f"{field.name}_{judge}_{outcome}", _text(count)
        else:
            yield field.name, _text(value)
            if field.name == "language":
                yield "language_name", language_name(value)


def _text(value: object) -> str:
    if without_nan(value) is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else as_cell(str(value))
