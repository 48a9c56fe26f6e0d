"""Judges: what kind of answer a text is."""
