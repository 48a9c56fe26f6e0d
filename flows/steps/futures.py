"""What stages will have made, while a run or a plan goes on."""

from collections.abc import Mapping
from typing import Any

Future = Any
"""What a stage that was submitted will have made; a plan has something else in its place."""


def finished(futures: Mapping[str, Future]) -> Mapping[str, Future]:
    """Waits for a fan-out, so that a failure in it ends the run here."""
    for future in futures.values():
        future.result()
    return futures
