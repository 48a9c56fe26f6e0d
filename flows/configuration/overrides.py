"""What a person changes in a configuration for one run: ``--set`` and ``--languages``."""

from collections.abc import Iterable, Sequence
from typing import Any

from flows.configuration.explaining import short, unquoted
from mlc.choices import words_of
from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.yaml_text import YamlProblem, parse_yaml


def combine_languages(configured: Iterable[Any], wanted: Sequence[str]) -> list[str]:
    """Applies a person's choice of languages to the configured ones.

    Raises:
        UserError: Plain names and changes (``+``, ``-``) are mixed, or nothing is left.
    """
    words = words_of(wanted)
    changes = [word for word in words if word[0] in "+-"]
    if not changes:
        return words
    if len(changes) < len(words):
        raise UserError(
            f"The languages {','.join(words)!r} mix plain names with + or -: write a list of languages, "
            "or changes only."
        )
    codes = []
    for number, name in enumerate(configured):
        if isinstance(name, bool):
            raise UserError(unquoted(f"languages.{number}", name))
        codes.append(resolve_language(str(name)).code)
    for change in changes:
        code = resolve_language(change[1:]).code
        if change[0] == "+":
            codes.append(code)
        elif code in codes:
            codes.remove(code)
        else:
            raise UserError(f"The language {change[1:]!r} cannot be taken away: it is not in the configuration.")
    if not codes:
        raise UserError("No language is left: name at least one to translate into.")
    return list(dict.fromkeys(codes))


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turns ``key=value`` texts into overrides; values are read as YAML.

    Raises:
        UserError: A text has no ``=``, or its value is no YAML.
    """
    overrides = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise UserError(f"The setting {short(pair)} is not of the form key=value, such as align.steps=12.")
        try:
            overrides[key.strip()] = parse_yaml(value)
        except YamlProblem as problem:
            raise UserError(f"The value of {short(pair)} {problem}: quote it as in YAML.") from None
    return overrides


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Changes one of a configuration's plain values.

    Args:
        values: The values; sections that are not there are added.
        key: Dotted, such as ``align.steps``.
        value: The new value.

    Raises:
        UserError: A section on the way has a value that is no mapping.
    """
    place = values
    *sections, last = key.split(".")
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(f"The key {key!r} is wrong: {section!r} is a value and has no keys of its own.")
        place = inner
    place[last] = value
