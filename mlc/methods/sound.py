"""Whether a method of one's own can be made at all, told before any work is spent on it."""

from typing import get_args

from pydantic import ValidationError

from mlc.errors import UserError
from mlc.methods.method import Method, Recipe
from mlc.training.settings import AlignSettings

TRANSLATED, ANSWERED = "translated prompts", "translated answers"


def require_sound(method: Method, name: str) -> None:
    """Checks a method of one's own.

    Args:
        method: The method.
        name: By which a configuration names it.

    Raises:
        UserError: Its recipe is none, it lacks a need, or its alignment fails or gives settings that are none.
    """
    lead = f"The method {name!r}"
    if method.recipe not in get_args(Recipe):
        raise UserError(f"{lead} has the recipe {method.recipe!r}: take one of {', '.join(get_args(Recipe))}.")
    reads = method.recipe in ("edit", "gate") or method.localized or ANSWERED in method.needs
    if reads and TRANSLATED not in method.needs:
        raise UserError(f"{lead} reads translations and does not say so: add {TRANSLATED!r} to its needs.")
    if method.recipe == "train":
        _require_settings(method, lead)


def _require_settings(method: Method, lead: str) -> None:
    try:
        made = method.alignment(AlignSettings())
    except UserError:
        # The configured alignment may have what the usual one lacks.
        return
    except Exception as error:  # whatever the code of others raises
        raise UserError(f"{lead} cannot make its alignment ({type(error).__name__}: {error}): correct it.") from None
    if not isinstance(made, AlignSettings):
        raise UserError(f"{lead} makes its alignment a {type(made).__name__}: let it give the settings, changed.")
    if strange := sorted(set(vars(made)) - set(AlignSettings.model_fields)):
        raise UserError(f"{lead} sets {strange[0]!r}, which is no setting of align: correct its spelling.")
    try:
        AlignSettings.model_validate(made.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{lead} sets align.{place} to what it cannot be ({first['msg']}): correct it.") from None
