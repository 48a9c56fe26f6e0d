"""What is wrong with the words that a person typed, in one plain sentence."""

from typing import Any

from typer.exceptions import TyperException

from mlc.choices import hint_among


def typed_wrongly(error: TyperException) -> str:
    """The sentence for arguments that cannot be understood, such as an option that there is not.

    Args:
        error: What the library that reads arguments says; of a wrong value it holds pydantic's error as its cause.
    """
    context: Any = getattr(error, "ctx", None)
    more = f"see `{context.command_path} -h`." if context else "see `mlc -h`."
    if hasattr(error, "possibilities"):
        unknown: Any = error
        near = unknown.possibilities
        return f"There is no option {unknown.option_name!r}: {f'did you mean {near[0]!r}?' if near else more}"
    parameter: Any = getattr(error, "param", None)
    problems = getattr(error.__cause__, "errors", None)
    if parameter is not None and problems is not None:
        return _wrong_value(parameter, problems()[0])
    told = error.format_message().rstrip(".")
    return f"{told}: {more}" if not told.endswith("?") else told


def _wrong_value(parameter: Any, problem: dict[str, Any]) -> str:
    from mlc.settings import demand_of

    name = " or ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name
    given = str(problem["input"])
    choices = parameter.type_descriptor.choices
    if choices:
        return f"{name} is {given!r}, which is no choice: {hint_among(given, choices)}"
    return f"{name} is {given!r}, but it {demand_of(problem)}."
