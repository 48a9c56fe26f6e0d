"""JSON in a file: one object a line, an array of objects, objects one after the other, or one object with an array."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal, cast

import orjson

from mlc.tables.blocks import BLOCK_BYTES, PLAIN_TYPES, block_of, objects_in
from mlc.tables.rows import Row, good_rows

Layout = Literal["lines", "array", "objects", "wrapped"]
NO_OBJECT = "not a JSON object"
CUT_OFF = "the JSON ends in the middle"
SECOND_ARRAY = "a second array in the same object"
BLOCK_CHARACTERS = 1 << 16
"""How much text is read at a time."""

HEAD_OF_ARRAY = 1_000
"""Characters after a bracket that say what an array holds."""

_SPACE = "\ufeff \t\r\n\v\f"
_BLANK = re.compile(r"[\s\ufeff]*")
_BETWEEN = re.compile(r"[\s,]*")
_ARRAY_OF_OBJECTS = re.compile(r"[\s\ufeff]*\[\s*(?:[{\]]|$)")
_ARRAY = re.compile(r"[\s\ufeff]*\[")
_TURN = re.compile(r'\{\s*"(?:role|from|content|value)"')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],"]', re.DOTALL)
_DECODE = json.JSONDecoder().raw_decode
_LAST_TOKEN = 16
"""Characters before the end of what is read that may be the beginning of a longer token."""


def layout_of(head: str, *, whole: bool, ending: str) -> Layout:
    """What kind of JSON a file holds.

    Args:
        head: Its beginning.
        whole: Whether that is all of it.
        ending: Ending of its name, such as ``.json``.
    """
    if _ARRAY_OF_OBJECTS.match(head) or (ending == ".json" and _ARRAY.match(head)):
        return "array"
    text = head.lstrip(_SPACE)
    if not text.startswith("{"):
        return "lines"
    first, _, rest = text.partition("\n")
    if _is_object(first):
        wrapped = ending == ".json" and not rest.strip(_SPACE) and _array_inside(first, 0) is not None
        return "wrapped" if wrapped else "lines"
    if any(line.startswith("{") and _is_object(line) for line in rest.split("\n")[:-1]):
        return "lines"
    if whole and not rest.strip(_SPACE):
        return "lines"
    return "wrapped" if _array_inside(text, 0) is not None else "objects"


def is_by_columns(values: Mapping[str, Any]) -> bool:
    """Whether an object is a whole table, as pandas writes one whose layout nobody names, and not a row of one.

    Args:
        values: The only object of a file.
    """
    if values.keys() == {"columns", "index", "data"}:
        return True
    parts = list(values.values())
    if parts and all(isinstance(part, dict) and part for part in parts):
        inner = {tuple(part) for part in parts}
        numbers = all(map(str.isdecimal, values)) or all(map(str.isdecimal, next(iter(inner))))
        return numbers and len(inner) == 1
    lists = len(parts) > 1 and all(isinstance(part, list) for part in parts)
    plain = not any(isinstance(item, list | dict) for part in parts if isinstance(part, list) for item in part)
    return lists and plain and len(set(map(len, parts))) == 1


def begins_with_object(head: str) -> bool:
    """Whether the first line of a file is a JSON object, whatever the file is called."""
    return _is_object(head.lstrip(_SPACE).partition("\n")[0])


def objects_of_lines(
    handle: IO[bytes], errors: str, *, names_only: bool = False
) -> Iterator[list[dict[str, Any] | None]]:
    """Rows of JSON Lines, many at a time; None for a line that is no object. Blank lines are no rows.

    Args:
        handle: Lines in UTF-8.
        errors: How bytes that are not UTF-8 are decoded.
        names_only: Whether values do not matter, which is faster.
    """
    begun = False
    while block := block_of(handle, BLOCK_BYTES):
        objects: list[Any] = objects_in(block, names_only=names_only) or _line_by_line(block, errors, begun=begun)
        begun = begun or bool(objects)
        yield objects


def rows_of_lines(handle: IO[bytes], errors: str) -> Iterator[Row]:
    """Rows of JSON Lines; see :func:`objects_of_lines`."""
    number = 1
    for objects in objects_of_lines(handle, errors):
        if set(map(type, objects)) == {dict}:
            yield from good_rows(cast("list[dict[str, Any]]", objects), number)
        else:
            for place, values in enumerate(objects, start=number):
                yield Row(place, {}, NO_OBJECT) if values is None else Row(place, values)
        number += len(objects)


def _line_by_line(block: bytes, errors: str, *, begun: bool) -> list[dict[str, Any] | None]:
    objects: list[dict[str, Any] | None] = []
    for line in block.split(b"\n"):
        try:
            values = orjson.loads(line)
            exact = isinstance(values, dict) and PLAIN_TYPES.issuperset(map(type, values.values()))
        except ValueError:
            # Stricter than Python's: no NaN, no half of a surrogate pair, no mark at the beginning.
            exact = False
        if not exact:
            text = line.decode("utf-8", errors)
            if not text.strip(_SPACE) or text.isspace():
                continue
            values = _value(text if begun or objects else text.lstrip("\ufeff"))
        objects.append(values if isinstance(values, dict) else None)
    return objects


def _value(text: str) -> Any:
    """The value of a line, None if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def rows_of_values(handle: IO[str], layout: Layout) -> Iterator[Row]:
    """Rows of an array, or of objects one after the other, with little more in memory than the longest of them."""
    for number, value in enumerate(_values(_Text(handle), layout), start=1):
        if isinstance(value, dict):
            yield Row(number, value)
        else:
            yield Row(number, {}, value if value in (CUT_OFF, SECOND_ARRAY) else NO_OBJECT)


class _Text:
    """The part of a text that is not yet used."""

    def __init__(self, handle: IO[str]) -> None:
        self._handle = handle
        self.buffer = ""
        self.place = 0

    def more(self) -> bool:
        """Reads on, ever more at a time, so that a long value is not gone through again and again."""
        block = self._handle.read(max(BLOCK_CHARACTERS, len(self.buffer) - self.place))
        self.buffer = self.buffer[self.place :] + block
        self.place = 0
        return bool(block)

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Passes over what a pattern matches and gives the next character, or nothing at the end."""
        while True:
            match = pattern.match(self.buffer, self.place)
            self.place = match.end() if match else self.place
            if self.place < len(self.buffer):
                return self.buffer[self.place]
            if not self.more():
                return ""


def _values(text: _Text, layout: Layout) -> Iterator[Any]:
    """Values one after the other; None for one that is no JSON."""
    in_array = layout != "objects"
    if in_array:
        text.skip(_BLANK)
        while layout == "wrapped" and (start := _array_inside(text.buffer, text.place)) is None:
            if not text.more():
                yield CUT_OFF
                return
        text.place = start if layout == "wrapped" and start is not None else text.place + 1
    while next_one := text.skip(_BETWEEN if in_array else _BLANK):
        if in_array and next_one == "]":
            text.place += 1
            if layout == "wrapped" and _another_array(text):
                yield SECOND_ARRAY
            return
        indent = _indent(text)
        value, end = _decoded(text)
        if end is None:
            end, whole = _end_by_lines(text, indent) if indent is not None else _end_by_brackets(text)
            value = None if whole else CUT_OFF
        text.place = end
        yield value
    if in_array:
        yield CUT_OFF


def _decoded(text: _Text) -> tuple[Any, int | None]:
    """The value at the place of reading, and where it ends; no end if it is no JSON."""
    while True:
        try:
            value, end = _DECODE(text.buffer, text.place)
        except json.JSONDecodeError as error:
            # What fails far from the end of what is read fails with more of it, too.
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.buffer) - _LAST_TOKEN
            if not cut or not text.more():
                return None, None
        except RecursionError:
            return None, None
        else:
            # A number may go on in the next block.
            if end < len(text.buffer) or not text.more():
                return value, end


def _indent(text: _Text) -> str | None:
    """The white space before a value that begins a line; None if something else stands there."""
    start = text.buffer.rfind("\n", 0, text.place)
    before = text.buffer[start + 1 : text.place]
    return before if start >= 0 and not before.strip() else None


def _end_by_lines(text: _Text, indent: str) -> tuple[int, bool]:
    """Where a value ends that is no JSON: before the next line that begins like it."""
    pattern = re.compile(rf"\n{re.escape(indent)}(?=[{{\[])|\n\s*\]\s*$")
    while True:
        match = pattern.search(text.buffer, text.place + 1)
        if match and (match.end() < len(text.buffer) or not text.more()):
            return match.start(), True
        if match is None and not text.more():
            return len(text.buffer), False


def _end_by_brackets(text: _Text) -> tuple[int, bool]:
    """Where a value ends that is no JSON, by its brackets, and whether it ends before the file does."""
    depth, at = 0, text.place
    while True:
        match = _TOKEN.search(text.buffer, at)
        if match is None or match.group() == '"':
            done = at - text.place
            if not text.more():
                return len(text.buffer), False
            at = done
            continue
        token = match.group()
        if depth == 0 and token in "],":
            # A mark that stands alone is what is passed over.
            return max(match.start(), text.place + 1), True
        at = match.end()
        depth += (token in "{[") - (token in "}]")
        if depth == 0 and token in "}]":
            return at, True


def _array_inside(text: str, start: int) -> int | None:
    """Where in an object the first array of objects begins that is no conversation: the place after its bracket."""
    depth = 0
    for match in _TOKEN.finditer(text, start):
        token = match.group()
        if token == "[" and depth == 1:
            after = text[match.end() : match.end() + HEAD_OF_ARRAY].lstrip()
            if after.startswith("{"):
                return None if _TURN.match(after) else match.end()
        depth += (token in "{[") - (token in "}]")
        if token in "}]" and depth <= 0:
            return None
    return None


def _another_array(text: _Text) -> bool:
    """Whether what is left of an object holds one more array of objects."""
    while text.more():
        pass
    return re.search(r":\s*\[\s*\{", text.buffer[text.place :]) is not None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
