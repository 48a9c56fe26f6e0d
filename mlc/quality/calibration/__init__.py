"""The calibrated quality of a translation, from the stored signals.

``quality`` is the probability that a person would give the translation at least 70 of 100, "the meaning is closely
kept" on the scale of direct assessment (Graham et al., 2013). It is a logistic regression with one term a signal:

    quality = 1 / (1 + exp(-(intercept + Σ term(signal))))

A term is a line through a few points, 0 at the signal's best value and never rising away from it (an additive model
with monotone terms; Hastie and Tibshirani, 1986). So a signal that gets worse never raises the quality, and a signal
that is NULL adds nothing: what does not apply is no evidence. Where the translator reports a log-probability there is
a term for it too, another intercept, and the terms of the text are multiplied by a slope.

The coefficients are in ``quality_model.json``, fitted by :mod:`mlc.making.calibrate` on translations that people
have judged, and on damaged ones. They say nothing about the meaning: docs/filter-quality.md tells what the score sees.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
from pydantic import Field, ValidationError

from mlc.errors import UserError
from mlc.settings import Settings

QUALITY_MODEL = Path(__file__).resolve().parent / "quality_model.json"
"""The coefficients that ship."""

Point = tuple[float, float]


class Guard(Settings):
    """Below a count another column says that the signal is not to be trusted; it then counts as NULL."""

    column: str
    """Name of a stored column."""

    least: int
    """Smallest count at which the term applies."""


class Term(Settings):
    """What one signal adds to the log-odds."""

    column: str
    """Name of a stored column, a number or true/false."""

    guard: Guard | None = None
    """When the term applies at all."""

    points: tuple[Point, ...] = Field(min_length=2)
    """Signal and log-odds, by rising signal: straight lines between, level outside."""

    def expression(self) -> str:
        """The term in SQL, NULL where the signal is."""
        value = f"{self.column}::DOUBLE"
        parts = [repr(self.points[0][1])]
        for (left, low), (right, high) in zip(self.points, self.points[1:], strict=False):
            slope = (high - low) / (right - left)
            if slope:
                parts.append(f"{slope!r} * least(greatest({value} - {left!r}, 0.0), {right - left!r})")
        applies = f"{self.column} IS NOT NULL"
        if self.guard:
            applies += f" AND {self.guard.column} >= {self.guard.least}"
        return f"CASE WHEN {applies} THEN {' + '.join(parts)} END"


class Confidence(Settings):
    """What the log-probability of the translator changes."""

    intercept: float
    """Takes the place of the intercept of the text."""

    slope: float = Field(ge=0)
    """Multiplies the terms of the text."""

    term: Term
    """The term of the log-probability, not multiplied."""


class QualityModel(Settings):
    """Coefficients of the quality, as they are stored."""

    version: int
    """Goes up with every change of the coefficients."""

    fitted_on: str
    """What the coefficients were fitted on."""

    intercept: float
    """Log-odds of a pair with every signal at its best or NULL, without a log-probability."""

    terms: tuple[Term, ...]
    """One for each signal of the text."""

    confidence: Confidence | None = None
    """Where the translator reports a log-probability; without it that is not read."""

    def columns(self) -> tuple[str, ...]:
        """Names of the stored columns that the quality reads."""
        terms = (*self.terms, *([self.confidence.term] if self.confidence else []))
        guards = [term.guard.column for term in terms if term.guard]
        return tuple(dict.fromkeys(["signal_empty", *(term.column for term in terms), *guards]))

    def expression(self) -> str:
        """The quality in SQL over the stored columns: a DOUBLE from 0 to 1, never NULL."""
        text = " + ".join(f"coalesce({term.expression()}, 0.0)" for term in self.terms) or "0.0"
        log_odds = f"{self.intercept!r} + {text}"
        if self.confidence:
            sure = self.confidence
            both = f"{sure.intercept!r} + {sure.slope!r} * ({text}) + {sure.term.expression()}"
            log_odds = f"coalesce({both}, {log_odds})"
        return f"CASE WHEN coalesce(signal_empty, FALSE) THEN 0.0 ELSE 1.0 / (1.0 + exp(-({log_odds}))) END"


@cache
def quality_model() -> QualityModel:
    """Returns the coefficients that ship."""
    return read_quality_model(QUALITY_MODEL)


def read_quality_model(path: Path) -> QualityModel:
    """Reads coefficients.

    Args:
        path: A file that :mod:`mlc.making.calibrate` wrote.

    Raises:
        UserError: The file does not hold such coefficients.
    """
    try:
        return QualityModel.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        raise UserError(
            f"{path} holds no coefficients of the quality: make them with `python -m mlc.making.calibrate FOLDER`."
        ) from error


def quality_expression() -> str:
    """Returns the quality in SQL over the stored ``signal_*`` columns: a DOUBLE from 0 to 1, never NULL."""
    return quality_model().expression()


def quality_of(signals: pa.Table, model: QualityModel | None = None) -> pa.ChunkedArray:
    """Returns the calibrated quality of every row.

    Args:
        signals: Output of :func:`mlc.quality.measuring.tables.compute_signals`; a column that is absent counts as NULL.
        model: Coefficients; those that ship if not given.

    Returns:
        A float64 from 0 to 1 for each row, in the order of the rows, never NULL; 0 where there is no translation.
    """
    chosen = model or quality_model()
    with duckdb.connect() as connection:
        connection.register("signals", _numbered(signals, chosen.columns()))
        found = connection.sql(f"SELECT {chosen.expression()} AS quality FROM signals ORDER BY row").to_arrow_table()
    return found["quality"]


def _numbered(signals: pa.Table, columns: Sequence[str]) -> pa.Table:
    absent = pa.nulls(signals.num_rows)
    read = {name: signals[name] if name in signals.column_names else absent for name in columns}
    return pa.table({**read, "row": pa.array(range(signals.num_rows), pa.int64())})
