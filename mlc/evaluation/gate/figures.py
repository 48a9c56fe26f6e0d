"""The figures that conditions of a gate are about, taken from evaluations."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from mlc.evaluation.comparison import Evaluations
from mlc.evaluation.figures import Figure
from mlc.evaluation.metrics import ANSWER_RATES, PromptGroup
from mlc.evaluation.results import MISSING, Estimate, EvaluationResult
from mlc.shapes.labels import LOOKALIKE

MOST_UNJUDGED = 0.1
"""Share of the answers behind a figure in a language that a judge may leave without an outcome; figures over fewer say
too little of the others."""
_JUDGED = (*ANSWER_RATES, "selectivity")
_CLASSES: tuple[PromptGroup, ...] = ("harmful", "harmless")


class Figures:
    """Figures of several models, and their differences.

    Args:
        results: Evaluations of the models, seeds and languages.
    """

    def __init__(self, results: Sequence[EvaluationResult]) -> None:
        self._results = results
        self._evaluations: dict[tuple[str, ...], Evaluations | None] = {}

    def of(self, figure: Figure, classes: tuple[str, ...], model: str, languages: tuple[str, ...]) -> Estimate | None:
        """The mean of a figure over languages and seeds.

        Args:
            figure: Which figure.
            classes: Only prompts of these kinds; all of them if empty.
            model: Name of the model.
            languages: NLLB codes.

        Returns:
            The figure with its interval; NaN with ``n`` 0 where it could not be measured, None where answers were given
            and the judge left more than :data:`MOST_UNJUDGED` of them in a language without an outcome.
        """
        evaluations = self._of_classes(classes)
        if evaluations is None or not _there(evaluations, model, languages):
            return MISSING
        if self._not_judged(figure, classes, model, languages):
            return None
        return evaluations.average(model, languages, figure).estimate

    def change(
        self, figure: Figure, classes: tuple[str, ...], candidate: str, other: str, languages: tuple[str, ...]
    ) -> Estimate | None:
        """The same of one model minus another, paired by prompt.

        Args:
            figure: As in :meth:`of`, like the next.
            classes: As there.
            candidate: Name of the model.
            other: Name of the model that is taken away. Where it has seeds, it needs those of the candidate, of which
                none may be left out.
            languages: NLLB codes.
        """
        evaluations = self._of_classes(classes)
        if evaluations is None or not all(_there(evaluations, model, languages) for model in (candidate, other)):
            return MISSING
        seeds = evaluations.seeds(other)
        if seeds != (None,) and not set(evaluations.seeds(candidate)) - {None} <= set(seeds):
            return MISSING
        if any(self._not_judged(figure, classes, model, languages) for model in (candidate, other)):
            return None
        return evaluations.compare(baseline=other, candidate=candidate, languages=languages, metric=figure)

    def _of_classes(self, classes: tuple[str, ...]) -> Evaluations | None:
        """Evaluations of the prompts of some kinds; None where there is none in any of them."""
        if classes not in self._evaluations:
            chosen = [replace(one, rows=_only(one.rows, classes)) for one in self._results]
            chosen = [one for one in chosen if pc.any(pc.equal(one.rows["split"], "test")).as_py()]
            self._evaluations[classes] = Evaluations(chosen) if chosen else None
        return self._evaluations[classes]

    def _not_judged(self, figure: Figure, classes: tuple[str, ...], model: str, languages: tuple[str, ...]) -> bool:
        """Whether too many of the answers that a figure is about have no outcome."""
        if figure not in _JUDGED:
            return False
        groups = _CLASSES if figure == "selectivity" else (ANSWER_RATES[figure][0],)
        own = [
            _of_group(_only(one.outcomes.filter(pc.equal(one.outcomes["judge"], one.summary.judge)), classes), group)
            for one in self._results
            if one.summary.model == model and one.summary.language in languages and len(one.outcomes)
            for group in groups
        ]
        return any(answers["outcome"].null_count > MOST_UNJUDGED * len(answers) for answers in own)


def _of_group(answers: pa.Table, group: PromptGroup) -> pa.Table:
    if group == "all":
        return answers
    return answers.filter(pc.equal(answers["kind" if group == LOOKALIKE else "label"], group))


def _only(rows: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    return rows.filter(pc.is_in(rows["kind"], pa.array(classes, pa.string()))) if classes else rows


def _there(evaluations: Evaluations, model: str, languages: tuple[str, ...]) -> bool:
    return bool(languages) and model in evaluations.models and set(languages) <= set(evaluations.languages(model))
