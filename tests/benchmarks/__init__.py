"""Benchmarks: what the project's own ways cost beside the plain ones. ``make bench``; see docs/benchmarks.md."""

BENCHMARKS = ("loss", "states", "dpo", "gpu", "scoring", "filter", "store", "translation", "editing")
"""Name of each benchmark, which is a module here with ``run(*, quick: bool) -> Iterator[Figure]``."""
