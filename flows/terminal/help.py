"""The help of commands: at most as wide as the terminal, with examples, and without types that say nothing."""

import inspect
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose help tells types in words that break between them, and none of a switch."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options."""
        return with_plain_types(super().get_params(ctx))


def with_plain_types(parameters: Sequence[Any]) -> list[Any]:
    """The same arguments and options, which tell their types plainly.

    The library that shows them makes their class itself, so that each of them is changed.
    """
    for parameter in parameters:
        parameter.display_type_rich = partial(_plain_type, parameter)
    return [*parameters]


def _plain_type(parameter: Any, ctx: Any) -> str | None:
    if getattr(parameter, "is_flag", False):
        return None
    told = re.sub(r"^<list\[(.*)\]>$", r"<\1> …", parameter.display_type(ctx))
    return told.replace(" range>", ">").replace("|", " | ")


def paragraphs(docstring: str | None) -> str:
    """The text of a docstring with each paragraph on one line, because its lines are longer than those of terminals."""
    parts = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(part.split("\n")) for part in parts)


def examples_in_help(lines: Sequence[str]) -> str:
    """What stands below a command's options."""
    return "\n".join(("[bold]Examples[/]", *map(escape, lines)))
