"""Measuring: refusal margins, representations, judges, statistics, the gate."""
