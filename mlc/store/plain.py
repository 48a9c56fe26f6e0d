"""Plain data, as JSON can hold it."""

import math
from typing import Any


def without_nan(value: Any) -> Any:
    """Plain data with None in place of every NaN, which JSON does not have; tuples come back as lists."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
