"""Benchmarks: what the project's own ways cost beside the plain ones. ``make bench``; see docs/benchmarks.md."""

BENCHMARKS = (
    "loss",
    "states",
    "sft",
    "adapters",
    "memory",
    "terms",
    "dpo",
    "gpu",
    "scoring",
    "answers",
    "gates",
    "filter",
    "quality",
    "kept",
    "store",
    "tables",
    "translation",
    "translation_gpu",
    "editing",
    "rerun",
    "languages",
)
"""Name of each benchmark, which is a module here with ``run(*, quick: bool) -> Iterator[Figure]``."""
