"""Comparisons straight from results, for tests that ask once."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mlc.evaluation.comparison import Evaluations, ModelRow, model_rows
from mlc.evaluation.results import Estimate, EvaluationResult
from mlc.evaluation.settings import RESAMPLES


def compare(results: Sequence[EvaluationResult], *, resamples: int = RESAMPLES, **given: Any) -> Estimate:
    """One difference, see :meth:`Evaluations.compare`."""
    return Evaluations(results, resamples=resamples).compare(**given)


def model_table(
    results: Sequence[EvaluationResult],
    *,
    trained_languages: Collection[str] | None = None,
    labels: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
) -> list[ModelRow]:
    """The table of models, see :func:`model_rows`."""
    return model_rows(
        Evaluations(results, labels=labels or {}, resamples=resamples), trained_languages=trained_languages
    )
