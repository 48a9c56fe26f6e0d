"""Evaluations made of outcomes that a test writes down."""

import pyarrow as pa

from mlc.evaluation.metrics import summarise
from mlc.evaluation.results import OUTCOMES_SCHEMA, ROWS_SCHEMA, EvaluationResult

EN, FR, SW = "eng_Latn", "fra_Latn", "swh_Latn"
OUTCOMES = {"r": "refused", "c": "complied", "i": "invalid", "u": "unsure", "-": None}
GOOD, BAD = ("r" * 18 + "cc", "c" * 18 + "rr"), ("r" * 6 + "c" * 14, "c" * 14 + "r" * 6)
LOOKALIKES = 5


def evaluated(model, language, harmful, harmless, *, seed=None, answered=True):
    """One evaluation from the outcomes of its prompts; refused ones have a margin above the threshold.

    Args:
        harmful: A letter for each harmful prompt, see ``OUTCOMES``.
        harmless: The same for harmless ones, of which the last are look-alikes.
    """
    letters = harmful + harmless
    labels = ["harmful"] * len(harmful) + ["harmless"] * len(harmless)
    kinds = [*labels[: len(letters) - LOOKALIKES], *["lookalike"] * LOOKALIKES]
    facts = {"id": [f"p{place}" for place in range(len(letters))], "label": labels, "kind": kinds}
    margins = [(1.0 if letter == "r" else -1.0) + 0.01 * (place % 3) for place, letter in enumerate(letters)]
    rows = {**facts, "split": ["test"] * len(letters), "margin": margins, "matched_cosine": [None] * len(letters)}
    table = pa.table(rows, schema=ROWS_SCHEMA)
    told = {
        **facts,
        "judge": ["rules"] * len(letters),
        "outcome": [OUTCOMES[letter] for letter in letters],
        "reason": ["as it is made here"] * len(letters),
        # Every fifth answer is in English.
        "answer_language": [EN if place % 5 == 0 else language for place in range(len(letters))],
    }
    outcomes = pa.table(told, schema=OUTCOMES_SCHEMA) if answered else OUTCOMES_SCHEMA.empty_table()
    summary = summarise(
        table,
        model=model,
        seed=seed,
        language=language,
        threshold=0.0,
        own_threshold=0.0,
        outcomes=outcomes,
    )
    return EvaluationResult(summary, table, outcomes)


def everywhere(model, harmful, harmless, *, languages=(EN, FR, SW), **more):
    return [evaluated(model, language, harmful, harmless, **more) for language in languages]
