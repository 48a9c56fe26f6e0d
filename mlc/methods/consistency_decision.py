"""English training beside the terms on states and on decisions."""

from mlc.methods.terms import beside_english

CONSISTENCY_DECISION, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "consistency",
    "decision",
    label="Consistency and decision",
    about="the terms of consistency and of decision together",
)
