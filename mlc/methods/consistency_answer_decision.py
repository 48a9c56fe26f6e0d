"""English training beside all three terms: on states, on answers and on decisions."""

from mlc.methods.terms import beside_english

ALL_TERMS, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "consistency",
    "answer",
    "decision",
    label="Consistency, answer and decision",
    about="the terms of consistency, of answer and of decision together",
)
