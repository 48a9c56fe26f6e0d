"""The files of configurations: which is meant, whether what it holds is sound, and where its paths start."""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows.configuration.explaining import LONGEST_SHOWN, short
from flows.places import SHIPPED_CONFIGS, shipped_configs
from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.shipped import SHIPPED_PREFIX
from mlc.yaml_text import read_mapping

_LARGEST = 2**63 - 1
_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_LONGEST_KEY = 200
_SURROGATE = re.compile("[\ud800-\udfff]")
PATH_KEYS = (
    ("prompts", "path"),
    ("prompts", "feedback"),
    ("policy", "model"),
    ("translator", "model"),
    ("translator", "prompt"),
    ("translator", "fallbacks", "model"),
    ("translator", "fallbacks", "prompt"),
    ("align", "teacher"),
    ("align", "launch", "config"),
    ("evaluation", "validation"),
    ("evaluation", "test"),
    ("evaluation", "references"),
    ("evaluation", "suites"),
    ("evaluation", "ability", "neutral"),
    ("evaluation", "ability", "choices"),
    ("gate",),
)
"""Where a configuration names files; relative ones start from the configuration's own folder."""


def find_config(name_or_path: str) -> Path:
    """The file of a configuration.

    Args:
        name_or_path: Name of a shipped configuration, or a YAML file.

    Raises:
        UserError: There is neither.
    """
    shipped = SHIPPED_CONFIGS / f"{name_or_path}.yaml"
    if name_or_path in shipped_configs():
        return shipped
    with suppress(OSError, RuntimeError):  # a name that is too long, or of a person who is not here
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
    names = shipped_configs()
    hint = hint_among(name_or_path, names, f"give a YAML file, or one of {', '.join(names)}.")
    raise UserError(f"There is no configuration {short(name_or_path)}: {hint}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The plain values of a configuration.

    Raises:
        UserError: The file cannot be read, holds no mapping, or has in it what :func:`require_sound` refuses.
    """
    values = read_mapping(path, f"The configuration {str(path)!r}", "of keys to values")
    require_sound(values)
    return values


def require_sound(value: Any, *place: str) -> None:
    """Refuses what no key can have and libraries stumble over: NUL, halves of letters, endless numbers and names.

    Args:
        value: Plain values, or one of them.
        place: The keys on the way to it.

    Raises:
        UserError: Somewhere in the values is such a thing.
    """
    key = ".".join(place)[:LONGEST_SHOWN]
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if len(str(name)) > _LONGEST_KEY:
                raise UserError(f"The configuration has a key of {len(str(name))} letters: {short(name)} is none.")
            require_sound(name if isinstance(name, str) else None, *place)
            require_sound(inner, *place, str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            require_sound(inner, *place, str(number))
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise UserError(f"The configuration key {key!r} has a number that is too large: {_LARGEST} is the largest.")
    elif isinstance(value, str):
        if "\0" in value or _SURROGATE.search(value):
            raise UserError(f"The configuration key {key!r} has a text with NUL or half a letter in it: take it out.")
        named = tuple(part for part in place if not part.isdigit())
        if named in (*PATH_KEYS, ("workspace",)) and not _may_be_a_path(value):
            raise UserError(f"The configuration key {key!r} has a path with a name that is too long: shorten it.")


def _may_be_a_path(text: str) -> bool:
    return len(text.encode()) < _LONGEST_PATH and all(
        len(part.encode()) <= _LONGEST_NAME for part in text.replace(os.sep, "/").split("/")
    )


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Lets the relative paths among values start from a folder, where something is there; changes the values.

    Args:
        values: Plain values of a configuration.
        folder: The folder of its file.
    """
    for *sections, key in PATH_KEYS:
        for part in _parts_at(values, sections):
            _anchor(part, key, folder)
    for name in ("parallel", "unpaired"):
        for given in _parts_at(values, ("prompts", name)):
            for language in given:
                _anchor(given, language, folder)


def _anchor(part: dict[str, Any], key: str, folder: Path) -> None:
    location = part.get(key)
    if isinstance(location, list):
        part[key] = [_anchored(one, folder) for one in location]
    elif isinstance(location, str):
        part[key] = _anchored(location, folder)


def _anchored(location: Any, folder: Path) -> Any:
    if isinstance(location, str) and not location.startswith(SHIPPED_PREFIX) and _is_there(folder / location):
        return str(folder / location)
    return location


def _parts_at(values: Any, sections: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The mappings at a place; a list on the way stands for each of its members."""
    if isinstance(values, list):
        for member in values:
            yield from _parts_at(member, sections)
    elif isinstance(values, dict):
        if sections:
            yield from _parts_at(values.get(sections[0]), sections[1:])
        else:
            yield values


def _is_there(path: Path) -> bool:
    """Whether there is a file or folder, or something that a pattern matches."""
    return path.exists() or bool(glob.glob(str(path)))
