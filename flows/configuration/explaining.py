"""How a mistake in a configuration becomes one sentence."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlc.errors import UserError
from mlc.settings import demand_of
from mlc.urls import redacted

LONGEST_SHOWN = 80
"""Letters of a value that a message shows."""
_LONG_VALUE = re.compile(rf"([\"'])((?:(?!\1).){{{LONGEST_SHOWN}}})(?:(?!\1).){{220,}}\1", re.DOTALL)
"""A value in quotes that is longer than most paths, and how it begins."""
_IN_YAML = {None: "null", True: "true", False: "false"}
_AS_YAML_READS = {True: "yes and on", False: "no and off"}

_Typed = TypeVar("_Typed", bound=BaseModel)


def validated(settings: type[_Typed], values: Mapping[str, Any], *sections: str) -> _Typed:
    """Plain values as typed settings.

    Args:
        settings: Their type.
        values: What they are given.
        sections: Where these stand in a configuration.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise _explained(error, settings, values, *sections) from None


def _explained(
    error: ValidationError, settings: type[BaseModel], values: Mapping[str, Any], *sections: str
) -> UserError:
    # A key that is no text, or that is written as on the command line, may be why another one is missing.
    first, *others = sorted(error.errors(), key=_is_about_a_value)
    if first["type"] == "invalid_key":
        key = ".".join(map(str, (*sections, *first["loc"][:-1])))
        holder = f"The configuration key {key!r}" if key else "The configuration"
        return UserError(f"{holder} has the key {short(first['input'])}, which is no text: write the name of a key.")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return _with_short_values(cause)
    if first["type"] == "extra_forbidden":
        return UserError(_unknown_key(settings, first["loc"], *sections))
    place = place_of(first["loc"], values)
    if first["type"] == "missing":
        key = ".".join(map(str, (*sections, *place, first["loc"][-1])))
        return UserError(f"The configuration lacks {key!r}: add it, as in the shipped configurations.")
    key = ".".join(map(str, (*sections, *place)))
    if first["type"] == "string_type" and isinstance(first["input"], bool):
        named = f"{key}.{short(first['input'])}" if first["loc"][-1] == "[key]" else key
        return UserError(unquoted(named, first["input"]))
    # Where a value may be one of several kinds, there is one error for each of them.
    kinds = [first, *(other for other in others if place_of(other["loc"], values) == place)]
    demands = list(dict.fromkeys(map(demand_of, kinds)))
    alternatives = " or ".join(
        [demands[0], *(demand.removeprefix("must ").removeprefix("be ") for demand in demands[1:])]
    )
    given, words = first["input"], ""
    if isinstance(given, bool):
        words = f", which is how YAML reads {_AS_YAML_READS[given]} without quotes"
    advice = ""
    if first["type"] == "tuple_type" and isinstance(given, str | int | float):
        advice = f": write [{given}]" if len(str(given)) <= LONGEST_SHOWN else ": write it in square brackets"
    near = difflib.get_close_matches(str(given), re.findall("'([^']+)'", first.get("ctx", {}).get("expected", "")), n=1)
    end = f": did you mean {near[0]!r}?" if near else f"{advice}."
    return UserError(f"The configuration key {key!r} has the value {short(given)}{words}, but it {alternatives}{end}")


def _with_short_values(error: UserError) -> UserError:
    """A mistake of which no value takes more than a few lines."""
    said = _LONG_VALUE.sub(lambda found: f"{found[1]}{found[2]}…{found[1]}", str(error))
    return error if said == str(error) else UserError(said, about=error.about)


def _is_about_a_value(error: Any) -> bool:
    dotted = error["type"] == "extra_forbidden" and "." in str(error["loc"][-1])
    return not (error["type"] == "invalid_key" or dotted)


def place_of(location: Sequence[int | str], values: Any) -> tuple[int | str, ...]:
    """The keys on the way to a value; pydantic names the kinds that a value may be on the way, too."""
    place: list[int | str] = []
    for part in location:
        inner = values
        if isinstance(values, Mapping):
            # YAML knows keys that are no texts.
            inner = next((value for name, value in values.items() if str(name) == str(part)), None)
            known = any(str(name) == str(part) for name in values)
        else:
            known = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
            inner = values[part] if known else values
        if known:
            place.append(part)
            values = inner
    return tuple(place)


def unquoted(key: str, value: bool) -> str:
    """What to say of a word that YAML does not take for a text."""
    words = _AS_YAML_READS[value]
    quoted = words.replace(" and ", '" or "')
    return (
        f"The configuration key {key!r} is {short(value)}, which is how YAML reads {words} without quotes: write "
        f'"{quoted}".'
    )


def short(value: Any) -> str:
    """A value as messages show it: as YAML writes it, without secrets, and not at length."""
    shown = _IN_YAML[value] if value is None or isinstance(value, bool) else redacted(repr(value))
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 3]}…"


def _unknown_key(settings: type[BaseModel], location: tuple[int | str, ...], *sections: str) -> str:
    model: type[BaseModel] | None = settings
    keyed = False
    for part in location[:-1]:
        if isinstance(part, int):
            # Of a list, whose members are described by its type.
            continue
        if keyed:
            # A language, a script or the like: what is below it is described by the mapping's values.
            keyed = False
            continue
        field = model.model_fields.get(str(part)) if model else None
        keyed = field is not None and get_origin(field.annotation) is dict
        model = _inner_model(model, str(part)) if model else None
    prefix = ".".join(map(str, (*sections, *location[:-1])))
    section, dot, inner = str(location[-1]).partition(".")
    if dot and model and section in model.model_fields:
        return (
            f"The configuration key {_dotted(prefix, str(location[-1]))!r} is written as on the command line: write "
            f"{section}: on a line of its own, and {inner}: below it."
        )
    known = sorted(model.model_fields) if model else []
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
    hint = f"did you mean {_dotted(prefix, near[0])!r}?" if near else f"allowed here are {', '.join(known)}."
    return f"The configuration key {_dotted(prefix, str(location[-1]))!r} is unknown: {hint}"


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _inner_model(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    if field is None:
        return None
    candidates = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
