"""English training beside the terms on answers and on decisions."""

from mlc.methods.terms import beside_english

ANSWER_DECISION, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "answer",
    "decision",
    label="Answer and decision",
    about="the terms of answer and of decision together",
)
