"""Where commands write: results on standard output; progress and errors on standard error."""

import json
import unicodedata
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlc.store.plain import without_nan

USER_MISTAKE = 2
"""Exit code of a command that a person can put right."""
terminal = Console(stderr=True)
"""Progress and errors."""
results = Console()
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
