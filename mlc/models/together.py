"""How many prompts of a training set a model answers in one batch. Light to import: plans tell its memory."""

ANSWERED_TOGETHER = 16
"""Changes nothing but time and memory."""
