"""How many prompts a model takes in one batch, which changes time and memory alone. Light to import, for plans."""

ANSWERED_TOGETHER = 32
"""Prompts of a training set that a model answers."""
READ_TOGETHER = 16
"""Prompts that a gate reads."""
