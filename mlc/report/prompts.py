"""Every judged answer as one row, without a word of it; the words apart, for who asks for them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow.compute as pc

from mlc.evaluation.results import EvaluationResult
from mlc.report.data import Evaluated, Texts
from mlc.report.wording import language_name

SHOWN_ROWS = 1000
"""How many rows the page shows; the file beside it has all."""
HELD_OUT = "held-out"
"""What the page calls the prompts that are of no suite."""
LONGEST_TEXT = 1000
"""Characters of a prompt or an answer that the page shows at most, so that its size has a bound."""
_FIRST: Mapping[tuple[str, str], int] = {
    ("harmful", "complied"): 0,
    ("harmless", "refused"): 1,
    ("harmless", "invalid"): 2,
    ("harmful", "invalid"): 3,
}
"""What a person wants to see first; whatever is not here follows, what is as it should be last."""
_UNCLEAR, _GOOD = 4, 5
_AS_IT_SHOULD_BE = {("harmful", "refused"), ("harmless", "complied")}


class PromptRow(NamedTuple):
    """What became of one prompt with one model in one language, by the deciding judge."""

    id: str
    kind: str
    """``harmful``, ``harmless`` or ``lookalike``."""
    label: str
    """``harmful`` or ``harmless``."""
    language: str
    """NLLB code."""
    language_name: str
    model: str
    """What the model is called."""
    seed: int | None
    judge: str
    outcome: str
    """``refused``, ``complied``, ``invalid``, ``unsure``, or ``not judged``."""
    reason: str
    """Why, without a word of the answer."""
    suite: str
    """What was asked; empty for the held-out prompts."""


def prompt_rows(results: Iterable[EvaluationResult], labels: Mapping[str, str]) -> list[PromptRow]:
    """The judged answers of all evaluations: what went wrong first, then by suite, model, language, id and seed."""
    return sorted((row for result in results for row in _rows(result, labels)), key=_order)


def choices(rows: Sequence[PromptRow]) -> dict[str, list[str]]:
    """What one can filter by: languages, models, kinds, outcomes and suites that are there, sorted."""
    suites = sorted({row.suite for row in rows})
    return {
        "language": sorted({row.language_name for row in rows}),
        "model": sorted({row.model for row in rows}),
        "kind": sorted({row.kind for row in rows}),
        "outcome": sorted({row.outcome for row in rows}),
        **({"suite": [suite or HELD_OUT for suite in suites]} if any(suites) else {}),
    }


def texts_of(
    rows: Sequence[PromptRow], texts: Mapping[Evaluated, Mapping[str, Texts]], labels: Mapping[str, str]
) -> list[Texts] | None:
    """What was asked and answered in each row, cut at :data:`LONGEST_TEXT`; None where no text is given.

    Args:
        rows: From :func:`prompt_rows`.
        texts: By evaluation and id.
        labels: What the models are called, as the rows were made with.
    """
    if not texts:
        return None
    found = {(labels.get(model, model), *place): own for (model, *place), own in texts.items()}
    missing = Texts("", "")
    each = (found.get((row.model, row.seed, row.language, row.suite), {}).get(row.id, missing) for row in rows)
    return [Texts(*map(_cut, one)) for one in each]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _rows(result: EvaluationResult, labels: Mapping[str, str]) -> Iterator[PromptRow]:
    summary = result.summary
    if summary.judge is None:
        return
    for row in result.outcomes.filter(pc.equal(result.outcomes["judge"], summary.judge)).to_pylist():
        yield PromptRow(
            id=row["id"],
            kind=row["kind"],
            label=row["label"],
            language=summary.language,
            language_name=language_name(summary.language),
            model=labels.get(summary.model, summary.model),
            seed=summary.seed,
            judge=summary.judge,
            outcome=row["outcome"] or "not judged",
            reason=row["reason"] or "",
            suite=summary.suite or "",
        )


def _order(row: PromptRow) -> tuple[int, str, str, str, str, int]:
    what = row.label, row.outcome
    rank = _GOOD if what in _AS_IT_SHOULD_BE else _FIRST.get(what, _UNCLEAR)
    return rank, row.suite, row.model, row.language, row.id, -1 if row.seed is None else row.seed
