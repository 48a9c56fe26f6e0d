"""Plain data, as JSON can hold it."""

import math
import re
from typing import Any

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


def without_nan(value: Any) -> Any:
    """Plain data with None in place of every NaN, which JSON does not have; tuples come back as lists."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: with an apostrophe before what would begin one; numbers stay."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
