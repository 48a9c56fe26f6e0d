"""The base of every configuration model: frozen; unknown keys and numbers that are not finite are errors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from mlc.errors import UserError

_MUST = {
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number that is not so large",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must hold keys with values",
    "model_type": "must hold keys with values",
    "model_attributes_type": "must hold keys with values",
    "none_required": "must be null",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than": "must be less than {lt:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "too_short": "must have at least {min_length} in it, not {actual_length}",
    "too_long": "must have at most {max_length} in it, not {actual_length}",
}
"""What a value must be, by the type of pydantic's error and with its context."""


def nested(names: Iterable[str]) -> dict[str, Any]:
    """Names of settings, some of them as ``section.name``, as pydantic takes them where they are to be left out."""
    found: dict[str, Any] = {}
    for name in sorted(names):
        section, _, inner = name.partition(".")
        if not inner:
            found[section] = True
        elif found.setdefault(section, {}) is not True:
            found[section][inner] = True
    return found


class Settings(BaseModel):
    """A typed, immutable part of the configuration.

    The defaults of the project are declared on its subclasses and nowhere else;
    a YAML file only fills them.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_true(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1, and YAML takes yes for true."""
        held = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(each, bool) for each in held):
            kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
            if kinds & {int, float} and not kinds & {bool, str, Any}:
                raise PydanticKnownError("int_type" if int in kinds else "float_type")
        return value


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("a text of this list is empty; write one, or take it out")
    return text


Spoken = Annotated[str, AfterValidator(_says_something)]
"""A text that a model says or reads."""


def require_apart(refusals: Sequence[str], compliances: Sequence[str]) -> None:
    """Checks that no opening stands on both sides of a margin, where it would tell nothing.

    Args:
        refusals: Openings of a refusal.
        compliances: Openings of an answer.

    Raises:
        UserError: One does.
    """
    for text in refusals:
        if text.strip() in {other.strip() for other in compliances}:
            raise UserError(
                f"The opening {text!r} is named in both refusal_openings and compliance_openings, where it tells "
                "nothing: name it in one of them."
            )


def _kinds(annotation: Any) -> set[Any]:
    """The types that a type is made of."""
    inner = get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def demand_of(problem: Mapping[str, Any]) -> str:
    """What a value must be, in plain words, such as ``must be at least 1``.

    Args:
        problem: One of the errors of pydantic's ``ValidationError``.
    """
    context = problem.get("ctx", {})
    if problem["type"] in _MUST:
        return _MUST[problem["type"]].format(**context)
    if "error" in context:
        return f"is wrong: {str(context['error']).rstrip('.')}"
    message = str(problem["msg"])
    return (message[:1].lower() + message[1:]).replace("input should be", "must be")
