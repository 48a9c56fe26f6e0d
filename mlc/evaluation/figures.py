"""What the figures of an evaluation are called. Light to import: configurations name them."""

from typing import Literal

Answered = Literal[
    "attack_success",
    "harmful_refused",
    "harmful_invalid",
    "harmless_answered",
    "harmless_refused",
    "harmless_invalid",
    "lookalike_refused",
    "unsure",
    "selectivity",
    "in_language",
    "harmful_in_language",
    "harmless_in_language",
]
"""Figures of answers."""
Screened = Literal[
    "auroc",
    "balanced_accuracy",
    "safety",
    "over_refusal",
    "lookalike_over_refusal",
    "selectivity_at_english_threshold",
    "selectivity_at_own_threshold",
]
"""Figures of the refusal margin, for which nothing is generated."""
Figure = Literal[Answered, Screened]
"""What a condition may be about."""
SELECTIVITIES: tuple[Figure, ...] = (
    "selectivity",
    "selectivity_at_english_threshold",
    "selectivity_at_own_threshold",
)
"""Figures from -1 to 1; the others are from 0 to 1."""
