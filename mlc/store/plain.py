"""Plain data, as JSON can hold it."""

import math
import re
from decimal import ROUND_HALF_UP, Decimal
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


def rounded(value: float, digits: int = 0) -> Decimal:
    """A finite figure in decimals, halves away from zero; zero has no sign.

    One figure is shown with two digits here and in per cent there. So every place rounds the decimal number that it is
    written as, not the binary one that lies next to it, and none rounds a half to the even digit.
    """
    return Decimal(f"{value:.9f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0
