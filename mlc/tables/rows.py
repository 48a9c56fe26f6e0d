"""One row of a table, and the text in a field."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple

from mlc.naming import looks_like_a_name

NO_TEXT = "no text"
BATCH_ROWS = 1_000

_UNDECODED = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One row of a table."""

    number: int
    """1 for the first row after a header; blank lines of JSON Lines, CSV and TSV are no rows."""
    values: Mapping[str, Any]
    """Values by column; of a row that cannot be read what there is of it, perhaps nothing."""
    problem: str | None = None
    """Why the row cannot be read."""


def good_rows(values: Iterable[Mapping[str, Any]], first: int) -> Iterator[Row]:
    """Rows without a problem, numbered from ``first``; faster than making them one by one."""
    return map(partial(tuple.__new__, Row), zip(count(first), values, repeat(None)))


def text_of(value: object) -> tuple[str, str | None]:
    """The text in a field, and what is wrong with it.

    Args:
        value: What stands in the field.

    Returns:
        The text, with U+FFFD in place of what is not Unicode, and the reason why it is of no use, or None.
    """
    if is_missing(value):
        return "", NO_TEXT
    if isinstance(value, (list, dict, bool)):
        return "", "not a text"
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    if _SURROGATE.search(text):
        reason = "bytes that are not UTF-8" if _UNDECODED.search(text) else "half a surrogate pair"
        return _SURROGATE.sub("\ufffd", text), reason
    if "\0" in text:
        return text, "a NUL character"
    return text, None if text.strip() else NO_TEXT


def is_missing(value: object) -> bool:
    """Whether a field is empty: what Python writes into JSON for a missing value counts, as in a table of numbers."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def plain_text(value: object) -> str | None:
    """A value as text: lists, records, numbers and truth values as JSON; what is not Unicode as U+FFFD."""
    if is_missing(value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    elif isinstance(value, (list, dict, bool, int, float)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return unicode_only(str(value))


def unicode_only(text: str) -> str:
    """A text with U+FFFD in place of what is not Unicode."""
    return _SURROGATE.sub("\ufffd", text)


def columns_in_words(names: Sequence[str]) -> str:
    """Names of columns for a message."""
    # Without a header the first prompts stand where names should, and messages quote no prompts.
    shown = [name for name in names if looks_like_a_name(name)]
    others = len(names) - len(shown)
    strange = [f"{others} that do not look like names, so a header may be missing"] if others else []
    return f"it has {', '.join([*shown, *strange]) or 'none'}"
