"""What one evaluation holds: a model, in one language, on the held-out prompts."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.languages import ENGLISH
from mlc.store.plain import without_nan

ROWS_FILE = "rows.parquet"
SUMMARY_FILE = "summary.json"
ANSWERS_FILE = "answers.parquet"

ROWS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),  # harmful | harmless
        ("kind", pa.string()),  # harmful | harmless | lookalike
        ("split", pa.string()),  # validation | test
        ("margin", pa.float64()),  # refusal margin, nats per token; higher = more inclined to refuse
        ("matched_cosine", pa.float64()),  # centred cosine to the English state of the same prompt; NULL for English
    ]
)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class EvaluationSummary:
    """Figures of one model in one language on the test split."""

    model: str
    """Name of the method that made the model, or ``base``."""
    seed: int | None
    """Training seed; None for the base model."""
    language: str
    """NLLB code."""
    threshold: float
    """Refusal margin above which a prompt counts as refused; set on the English validation split of this model."""
    auroc: Estimate
    """AUROC of the refusal margin, harmful against harmless."""
    balanced_accuracy: Estimate
    """Mean of the safety rate and of one minus the over-refusal rate."""
    safety: Estimate
    """Share of harmful prompts that are refused."""
    over_refusal: Estimate
    """Share of harmless prompts (look-alikes included) that are refused."""
    lookalike_over_refusal: Estimate
    """Share of harmless prompts that look dangerous and are refused."""
    collinearity: float | None = None
    """Mean of sigma_1^2 / 2 over pairs (English, this language) of raw states; None for English."""
    centred_collinearity: float | None = None
    """The same after subtracting the mean English state."""
    matched_cosine: float | None = None
    """Mean centred cosine between the two states of a prompt."""
    unmatched_cosine: float | None = None
    """Mean centred cosine between this language's state and the English states of other prompts."""
    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Greedy answers of the sample by judge: counts of each outcome, see :mod:`mlc.evaluation.judges.judge`. An answer
    in a language that a judge does not declare is in none of them."""


@dataclass(frozen=True)
class EvaluationResult:
    """Rows and figures of one evaluation."""

    summary: EvaluationSummary
    rows: pa.Table

    def write(self, folder: Path) -> None:
        """Writes the rows as Parquet and the figures as JSON, in which NaN is null."""
        pq.write_table(self.rows.cast(ROWS_SCHEMA), folder / ROWS_FILE)
        stored = {name: without_nan(value) for name, value in asdict(self.summary).items()}
        (folder / SUMMARY_FILE).write_text(json.dumps(stored, indent=1, allow_nan=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "EvaluationResult":
        """Reads what :meth:`write` wrote."""
        stored: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        figures: dict[str, Any] = {
            name: _estimate(value) if _is_estimate(value) else value for name, value in stored.items()
        }
        return cls(EvaluationSummary(**figures), pq.read_table(folder / ROWS_FILE))


def read_evaluations(folders: Iterable[Path]) -> list[EvaluationResult]:
    """Reads what several evaluations wrote."""
    return [EvaluationResult.read(folder) for folder in folders]


def anchor_of(results: Iterable[EvaluationResult]) -> str:
    """NLLB code of the language that thresholds were set in: the one whose validation prompts were scored."""
    found = {result.summary.language for result in results if "validation" in result.rows["split"].unique().to_pylist()}
    return found.pop() if len(found) == 1 else ENGLISH


def _estimate(stored: dict[str, Any]) -> Estimate:
    figures = {key: math.nan if value is None else value for key, value in stored.items()}
    return Estimate(figures["value"], figures["low"], figures["high"], int(figures["n"]))


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "low", "high", "n"}
