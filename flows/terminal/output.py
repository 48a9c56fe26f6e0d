"""Where commands write: results on standard output; progress and errors on standard error."""

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlc.store.plain import without_nan

USER_MISTAKE = 2
"""Exit code of a command that a person can put right."""
_GAP = 2
"""Blanks between two columns."""
_NARROWEST = 8
"""Cells of a column below which nothing is won by breaking names."""
_JOINTS = " ·-+_,"
"""Signs behind which a name may go on in the next line."""
UNLIMITED = 10_000
"""Columns of a pipe or a file, in which nothing is wrapped or cut; more than any line has."""


class Output(Console):
    """A console that breaks lines only where a person sees them, and there between words.

    Sentences with names of files are printed with ``soft_wrap``: where others would leave the break to the terminal,
    which makes it inside of words, this console makes it between them, and leaves what is longer than a line whole, so
    that it can be copied.
    """

    def __init__(self, *, width: int | None = None, **settings: Any) -> None:
        super().__init__(width=width, **settings)
        # Consoles are made when their module is loaded: what COLUMNS says then may not be what it says later.
        self._width = width

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines; nobody's width is asked for a pipe or a file, unless COLUMNS names one."""
        found = super().size
        named = self._width is not None or self._environ.get("COLUMNS", "").isdigit()
        return found if named or self.is_terminal else ConsoleDimensions(UNLIMITED, found.height)

    @size.setter
    def size(self, dimensions: tuple[int, int]) -> None:
        self._width, self._height = dimensions

    def print(self, *objects: Any, soft_wrap: bool | None = None, **told: Any) -> None:
        """Prints."""
        if soft_wrap and self.is_terminal:
            markup, highlight = told.pop("markup", None), told.get("highlight")
            texts = (
                self.render_str(each, markup=markup, highlight=highlight) if isinstance(each, str) else each
                for each in objects
            )
            objects = tuple(broken(each, self.width) if isinstance(each, Text) else each for each in texts)
        super().print(*objects, soft_wrap=soft_wrap, **told)


def broken(text: Text, width: int) -> Text:
    """A text with breaks between words; lines after the first have its indentation.

    Args:
        text: Any text.
        width: Cells of a line; a word that is longer is left whole.
    """
    return Text("\n").join(part for line in text.split("\n", allow_blank=True) for part in _parts(line, width))


def _parts(line: Text, width: int) -> list[Text]:
    indentation = len(line.plain) - len(line.plain.lstrip())
    used, breaks = indentation, []
    for word in re.finditer(r"\S+\s*", line.plain):
        if used > indentation and used + cell_len(word.group().rstrip()) > width:
            breaks.append(word.start())
            used = indentation
        used += cell_len(word.group())
    first, *others = line.divide(breaks)
    parts = [first, *(Text(line.plain[:indentation]).append_text(part) for part in others)]
    for part in parts:
        part.rstrip()
    return parts


terminal = Output(stderr=True)
"""Progress and errors."""
results = Output()
"""What a person asked for; with ``--json``, standard output is free for its one line."""


def shown(value: object) -> str:
    """A name, a path or another text from outside, for a line with markup: shown as it is, and able to do nothing.

    Controls, such as those that begin escape sequences, and halves of surrogates are shown as U+FFFD.
    """
    return escape(
        "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in str(value))
    )


def print_error(sentence: str) -> None:
    """Prints what is wrong on standard error."""
    terminal.print(f"[red]mlc:[/] {shown(sentence)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints one line of JSON on standard output; what is not a number is null."""
    print(json.dumps(without_nan(value), ensure_ascii=False))


def plain_table(*columns: str, right: Collection[str] = (), title: str | None = None) -> Table:
    """A table without lines.

    Args:
        columns: Heads of the columns.
        right: Those of them that hold numbers.
        title: What stands above it.
    """
    table = Table(title=title, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def in_lines(text: str, width: int, *, behind: str) -> str:
    """A name in lines that end behind one of some signs, where it is too long for one line.

    Args:
        text: The name.
        width: Cells of a line; a part that is longer is left whole.
        behind: The signs.
    """
    lines = [""]
    for part in re.split(f"(?<=[{re.escape(behind)}])", text):
        if lines[-1] and cell_len(f"{lines[-1]}{part}".rstrip()) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return "\n".join(line.rstrip() for line in lines)


def fitted_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> Table:
    """A table of texts whose names go on in a next line behind a blank or a sign, where it would be too wide else.

    Args:
        heads: Heads of the columns.
        rows: Texts, without markup.
        width: Cells that there are.
        right: Columns that hold numbers; they are never broken.
        whole: Others that are never broken, so that what they hold can be copied.
    """
    given = [[head, *cells] for head, *cells in zip(heads, *rows, strict=True)]
    columns = given
    if _total(columns) > width:
        columns = [
            [in_lines(head, max(map(cell_len, cells), default=0), behind=_JOINTS), *cells] for head, *cells in given
        ]
    shrinking = {place for place, head in enumerate(heads) if head not in right and head not in whole}
    while shrinking and _total(columns) > width:
        place = max(shrinking, key=lambda place: _widest(columns[place]))
        limit = _widest(columns[place]) - 1
        broken_off = [in_lines(cell, limit, behind=_JOINTS) for cell in given[place]]
        if limit < _NARROWEST or _widest(broken_off) > limit:
            shrinking.remove(place)
        else:
            columns[place] = broken_off
    table = plain_table(*(head for head, *_ in columns))
    for column, head in zip(table.columns, heads, strict=True):
        column.justify = "right" if head in right else "left"
        column.overflow = "fold"
    for row in zip(*(cells for _, *cells in columns), strict=True):
        table.add_row(*map(shown_lines, row))
    return table


def _widest(column: Sequence[str]) -> int:
    return max(cell_len(line) for cell in column for line in cell.split("\n"))


def _total(columns: Sequence[Sequence[str]]) -> int:
    return sum(map(_widest, columns)) + _GAP * (len(columns) - 1)


def shown_lines(text: str) -> str:
    """As :func:`shown`, for a text in lines."""
    return "\n".join(map(shown, text.split("\n")))


def print_explained(
    heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console, *, right: Collection[str] = ()
) -> None:
    """Prints a table whose last column explains the rows; an explanation that is too long for it stands below its row.

    Args:
        heads: Heads of the columns.
        rows: Cells, with markup.
        console: Where to print.
        right: Columns that hold numbers.
    """
    others = table_lines(_filled(heads[:-1], [row[:-1] for row in rows], right), console)
    room = console.width - _GAP - max(cell_len(line.plain) for line in others)
    below = [row[-1] if cell_len(console.render_str(row[-1]).plain) > room else "" for row in rows]
    if cell_len(heads[-1]) > room:
        below = [f"{heads[-1]}: {row[-1]}" if row[-1] else "" for row in rows]
        heads = [*heads[:-1], ""]
    cells = [[*row[:-1], "" if long else row[-1]] for row, long in zip(rows, below, strict=True)]
    lines = iter(table_lines(_filled(heads, cells, right), console))
    for row, explanation in zip((heads, *cells), ("", *below), strict=True):
        for line in islice(lines, 1 + max(cell.count("\n") for cell in row)):
            line.rstrip()
            console.print(line, soft_wrap=True)
        if explanation:
            console.print(f"  [dim]{explanation}[/]", highlight=False, soft_wrap=True)


def table_lines(table: Table, console: Console) -> list[Text]:
    """The head and the rows of a table in lines, no more than their cells have, however wide the console is.

    Args:
        table: A table.
        console: What it is for.
    """
    lines = console.render_lines(table, console.options.update(max_width=UNLIMITED), pad=False)
    return [Text.assemble(*((part.text, part.style or "") for part in line)) for line in lines]


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> Table:
    table = plain_table(*heads, right=right)
    for row in rows:
        table.add_row(*row)
    return table
