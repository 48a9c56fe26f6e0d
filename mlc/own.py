"""Objects of people's own code that a configuration names: methods, judges, carriers and the like."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import TypeVar

from mlc.errors import UserError

Kind = TypeVar("Kind")


def resolve_own(name: str, kind: type[Kind], word: str, known: Iterable[str]) -> Kind:
    """Imports ``module:object``.

    Args:
        name: What the configuration says.
        kind: What the object must be.
        word: What such objects are called, for errors.
        known: Names that need no import, for errors.

    Raises:
        UserError: The name has no colon, the module or the object is not there, or it is of another kind.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {near[0]!r}? Known are" if near else "choose from"
        raise UserError(
            f"The {word} {name!r} is unknown: {hint} {', '.join(known)}, or name an object of your own as "
            "'module:object'."
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The {word} {name!r} cannot be imported ({type(error).__name__}): name a module that Python finds and an "
            "object in it."
        ) from None
    if not isinstance(found, kind):
        raise UserError(
            f"The {word} {name!r} is a {type(found).__name__}: it must be a {kind.__module__}.{kind.__name__}."
        )
    return found
