"""From verdicts to the tables that figures are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mlc.evaluation.judges.judge import Answer, Verdict
from mlc.evaluation.judges.soundness import spoken
from mlc.evaluation.results import OUTCOMES_SCHEMA

JUDGED_COLUMNS = ("id", "prompt", "answer", "judge", "outcome", "reason", "category", "raw")
NOT_JUDGED = "not judged: the judge does not know the language"


def outcome_table(
    answered: Sequence[Mapping[str, Any]],
    answers: Sequence[Answer],
    verdicts: Mapping[str, Sequence[Verdict | None]],
) -> pa.Table:
    """What counts of each answer by each judge; the outcome of an answer that was not judged is NULL.

    Args:
        answered: Rows with ``id``, ``label`` and ``kind``.
        answers: Their answers, in the same order.
        verdicts: By judge, in the same order.
    """
    heard = spoken([answer.text for answer in answers], [answer.language for answer in answers])
    rows = [
        {
            **{name: row[name] for name in ("id", "label", "kind")},
            "judge": judge,
            "outcome": verdict.counts_as(harmful=row["label"] == "harmful") if verdict else None,
            "reason": verdict.reason if verdict else NOT_JUDGED,
            "answer_language": said.code,
        }
        for judge, given in verdicts.items()
        for row, verdict, said in zip(answered, given, heard, strict=True)
    ]
    return pa.Table.from_pylist(rows, OUTCOMES_SCHEMA)


def verdict_table(answered: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Sequence[Verdict | None]]) -> pa.Table:
    """The verdicts beside the texts, as each judge gave them; never shown.

    Args:
        answered: Rows with ``id``, ``prompt`` and ``answer``.
        verdicts: By judge, in the same order.
    """
    rows = [
        {
            **{name: row[name] for name in ("id", "prompt", "answer")},
            "judge": judge,
            "outcome": verdict.outcome if verdict else None,
            "reason": verdict.reason if verdict else NOT_JUDGED,
            "category": verdict.category if verdict else None,
            "raw": verdict.raw if verdict else None,
        }
        for judge, given in verdicts.items()
        for row, verdict in zip(answered, given, strict=True)
    ]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in JUDGED_COLUMNS]))
