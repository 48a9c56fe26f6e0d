"""English training beside the terms on states and on answers."""

from mlc.methods.terms import beside_english

CONSISTENCY_ANSWER, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "consistency",
    "answer",
    label="Consistency and answer",
    about="the terms of consistency and of answer together",
)
