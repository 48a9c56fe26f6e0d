"""English training beside a term on the decision: translations are refused as much as their English prompt."""

from mlc.methods.terms import beside_english

DECISION, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "decision",
    label="Decision",
    about="a term that pulls refusal margins of translations to the English one",
)
