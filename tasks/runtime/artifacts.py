"""Names of the files in artifacts, and the reading of what other stages made."""

import json
from pathlib import Path
from typing import Any

from mlc.store import ArtifactRef
from tasks.runtime.run import current_run

PROMPTS_FILE = "prompts.parquet"
SET_ASIDE_FILE = "rejected.parquet"
TRANSLATIONS_FILE = "translations.parquet"
SIGNALS_FILE = "signals.parquet"
VERDICTS_FILE = "verdicts.parquet"
REJECTS_FILE = "rejects.parquet"
FUNNEL_FILE = "funnel.parquet"
COVERAGE_FILE = "coverage.parquet"
DATASET_FOLDER = "dataset"
CHECKPOINT_FOLDER = "checkpoint"
DELTA_FOLDER = "delta"
SEARCH_FILE = "search.json"
OVERLAPS_FILE = "overlaps.json"
TRAINING_LOG_FILE = "training_log.jsonl"
MARGINS_FILE = "margins.parquet"
GENERATED_FILE = "generated.parquet"
STATES_FILE = "states.npy"
HEADLINE_FILE = "headline.json"
REPORT_FILE = "report.html"
VERSION_FILE = "version.json"
DECISION_FILE = "decision.json"


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
