"""English training beside the Multi-Lingual Consistency term (Bu et al., arXiv 2602.16660), and its controls."""

from mlc.methods.terms import beside_english

CONSISTENCY, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "consistency",
    label="Consistency",
    about="a term that pulls the states of a prompt and its translations together",
)
