"""Reading of what other stages made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlc.evaluation.results import EvaluationResult
from mlc.store import ArtifactRef
from tasks.files import DECISION_FILE, HEADLINE_FILE, REPORT_FILE
from tasks.running import current_run


def read_results(references: Mapping[str, ArtifactRef]) -> list[EvaluationResult]:
    """Reads evaluations."""
    store = current_run().store
    return [EvaluationResult.read(store.folder(ref)) for ref in references.values()]


def read_headline(report: ArtifactRef) -> dict[str, Any]:
    """The figures that a run prints at its end, by model and by comparison."""
    return _read_json(report, HEADLINE_FILE)


def read_decision(decision: ArtifactRef) -> dict[str, Any]:
    """The gate's decision: passed, reasons, and the version it is about."""
    return _read_json(decision, DECISION_FILE)


def report_page(report: ArtifactRef) -> Path:
    """Where the page lies."""
    return current_run().store.folder(report) / REPORT_FILE


def _read_json(ref: ArtifactRef, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((current_run().store.folder(ref) / name).read_text(encoding="utf-8"))
    return content
