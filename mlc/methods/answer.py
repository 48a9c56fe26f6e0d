"""English training beside a term on the answer: after a translation it begins as after the English prompt."""

from mlc.methods.terms import beside_english

ANSWER, SHUFFLED, SHUFFLED_WITHIN_CLASS, PERMUTED_LABELS = beside_english(
    "answer",
    label="Answer",
    about="a term that makes answers to translations begin as in English",
)
