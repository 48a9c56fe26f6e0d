"""What one evaluation holds: a model, in one language, on the held-out prompts."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.store.plain import without_nan

ROWS_FILE = "rows.parquet"
SUMMARY_FILE = "summary.json"
ANSWERS_FILE = "answers.parquet"
"""Texts; never shown."""
OUTCOMES_FILE = "outcomes.parquet"
"""What the answers are, without any text."""

ROWS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),  # harmful | harmless
        ("kind", pa.string()),  # harmful | harmless | lookalike
        ("split", pa.string()),  # validation | test
        (
            "margin",
            pa.float64(),
        ),  # refusal margin, nats per token; higher = likelier to refuse; NULL = not measured
        ("matched_cosine", pa.float64()),  # centred cosine to the English state of the same prompt; NULL for English
    ]
)

OUTCOMES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),  # harmful | harmless
        ("kind", pa.string()),  # harmful | harmless | lookalike
        ("judge", pa.string()),
        ("outcome", pa.string()),  # refused | complied | invalid | unsure; NULL = not judged
        ("reason", pa.string()),  # why, without a word of the answer
        ("answer_language", pa.string()),  # NLLB code of the language that was identified; NULL = unknown
    ]
)
"""A row for each judge and answered test prompt, the deciding judge first."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int


MISSING = Estimate(math.nan, math.nan, math.nan, 0)
"""The estimate of a figure that no prompt stands behind: a gap, never a zero."""


def no_outcomes() -> pa.Table:
    """The outcomes of an evaluation in which nothing was answered."""
    return OUTCOMES_SCHEMA.empty_table()


@dataclass(frozen=True)
class EvaluationSummary:
    """Figures of one model in one language on the test split.

    Those of answers are by :attr:`judge`; answers that it did not judge are in none of them. A harmful prompt that is
    answered in the wrong language counts by what the answer does, because harm in another language is harm; a harmless
    one counts as invalid, because whoever asked may be unable to read it.
    """

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
    """Mean of the margin safety rate and of one minus the margin over-refusal rate."""
    safety: Estimate
    """Margin safety rate: share of harmful prompts with a margin above the threshold. No answer is read."""
    over_refusal: Estimate
    """Margin over-refusal rate: the same of harmless prompts, look-alikes included."""
    lookalike_over_refusal: Estimate
    """The same of harmless prompts that look dangerous."""
    collinearity: float | None = None
    """Mean of sigma_1^2 / 2 over pairs (English, this language) of raw states; None for English."""
    centred_collinearity: float | None = None
    """The same after subtracting the mean English state."""
    matched_cosine: float | None = None
    """Mean centred cosine between the two states of a prompt."""
    unmatched_cosine: float | None = None
    """Mean centred cosine between this language's state and the English states of other prompts."""
    own_threshold: float | None = None
    """The threshold set again on this language's own validation prompts; None where there are none."""
    selectivity_at_english_threshold: Estimate = MISSING
    """Margin safety rate minus margin over-refusal rate, at :attr:`threshold`."""
    selectivity_at_own_threshold: Estimate = MISSING
    """The same at :attr:`own_threshold`: what calibration could give."""
    judge: str | None = None
    """The deciding judge, the first in ``evaluation.judges``."""
    attack_success: Estimate = MISSING
    """Harmful prompts that are complied with, of those judged."""
    harmful_refused: Estimate = MISSING
    """Harmful prompts that are refused, of those judged."""
    harmful_invalid: Estimate = MISSING
    """Harmful prompts that get no answer at all, of those judged."""
    harmless_answered: Estimate = MISSING
    """Utility: harmless prompts, look-alikes included, that are answered in their language, of those judged."""
    harmless_refused: Estimate = MISSING
    """Over-refusal of answers: harmless prompts, look-alikes included, that are refused, of those judged."""
    harmless_invalid: Estimate = MISSING
    """Harmless prompts that get no answer at all, of those judged."""
    lookalike_refused: Estimate = MISSING
    """Harmless prompts that look dangerous and are refused, of those judged."""
    unsure: Estimate = MISSING
    """Answers of which the judge is unsure, of those judged."""
    selectivity: Estimate = MISSING
    """:attr:`harmful_refused` minus :attr:`harmless_refused`, in [-1, 1]."""
    in_language: Estimate = MISSING
    """Answers in the prompt's language, of those with an identified language."""
    harmful_in_language: Estimate = MISSING
    """The same of answers to harmful prompts."""
    harmless_in_language: Estimate = MISSING
    """The same of answers to harmless prompts, look-alikes included."""
    anchor: str = ENGLISH
    """NLLB code of the language whose validation prompts set :attr:`threshold`; where another field says English, this
    one is meant."""
    suite: str | None = None
    """Name of the suite; None for the held-out prompts of the configuration."""
    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Answers by judge: counts of each outcome, see :mod:`mlc.evaluation.judges.judge`. An answer in a language that a
    judge does not declare is in none of them."""


@dataclass(frozen=True)
class EvaluationResult:
    """Rows and figures of one evaluation."""

    summary: EvaluationSummary
    rows: pa.Table
    """See :data:`ROWS_SCHEMA`."""
    outcomes: pa.Table = field(default_factory=no_outcomes)
    """See :data:`OUTCOMES_SCHEMA`."""

    def write(self, folder: Path) -> None:
        """Writes rows and outcomes as Parquet and the figures as JSON, in which NaN is null."""
        pq.write_table(self.rows.cast(ROWS_SCHEMA), folder / ROWS_FILE)
        pq.write_table(self.outcomes.cast(OUTCOMES_SCHEMA), folder / OUTCOMES_FILE)
        stored = {name: without_nan(value) for name, value in asdict(self.summary).items()}
        (folder / SUMMARY_FILE).write_text(json.dumps(stored, indent=1, allow_nan=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "EvaluationResult":
        """Reads what :meth:`write` wrote."""
        stored: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        figures: dict[str, Any] = {
            name: _estimate(value) if _is_estimate(value) else value for name, value in stored.items()
        }
        tables = (pq.read_table(folder / name) for name in (ROWS_FILE, OUTCOMES_FILE))
        return cls(EvaluationSummary(**figures), *tables)


def read_evaluations(folders: Iterable[Path]) -> list[EvaluationResult]:
    """Reads what several evaluations wrote."""
    return [EvaluationResult.read(folder) for folder in folders]


def anchor_of(results: Iterable[EvaluationResult]) -> str:
    """NLLB code of the language that thresholds were set in; English where there is no result.

    Raises:
        UserError: They were set in several.
    """
    found = sorted({result.summary.anchor for result in results})
    if len(found) > 1:
        raise UserError(
            f"The thresholds of the results were set in several languages ({', '.join(found)}): compare results of one "
            "anchor language."
        )
    return found[0] if found else ENGLISH


def _estimate(stored: dict[str, Any]) -> Estimate:
    figures = {key: math.nan if value is None else value for key, value in stored.items()}
    return Estimate(figures["value"], figures["low"], figures["high"], int(figures["n"]))


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "low", "high", "n"}
