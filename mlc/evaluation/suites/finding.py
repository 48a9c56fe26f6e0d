"""Finding a suite by its name or file, and a local copy of its prompts."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.evaluation.suites.settings import SuiteSettings
from mlc.settings import demand_of
from mlc.shipped import shipped_data
from mlc.yaml_text import read_mapping

DEFAULT_SUITE = "quickstart"
"""The suite, if none is named."""
COPIES_VARIABLE = "MLC_SUITES"
"""Environment variable that names a folder with local copies: a folder for each suite, called by its name."""


def shipped_suites() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in shipped_data("suites").glob("*.yaml"))


def find_suite(location: str, base: Path) -> tuple[SuiteSettings, Path]:
    """The settings of a suite, and the folder that its relative paths start from.

    Args:
        location: Name of a shipped suite, or a YAML file.
        base: Folder that a relative path to the file starts from.

    Raises:
        UserError: There is no such suite, or its file is wrong.
    """
    path = base / Path(location).expanduser()
    if not path.is_file() and location in shipped_suites():
        path = shipped_data(f"suites/{location}.yaml")
    if not path.is_file():
        names = shipped_suites()
        hint = hint_among(location, names, f"give a YAML file, or one of {', '.join(names)}.")
        raise UserError(f"There is no suite {location!r}: {hint}")
    values = read_mapping(path, f"The suite {location!r}", "with a source")
    try:
        return SuiteSettings.model_validate({"name": path.stem, **values}), path.parent
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UserError(f"The suite {location!r} is wrong: {_problem(first)}.") from None


def local_copy(name: str) -> Path | None:
    """The folder with a local copy of a suite that :data:`COPIES_VARIABLE` names, if it is there."""
    folder = os.environ.get(COPIES_VARIABLE)
    copy = Path(folder).expanduser() / name if folder else None
    return copy if copy and copy.is_dir() else None


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if part not in ("parts", 0))
    if error["type"] == "missing":
        return f"{place or 'source'} is missing, set it"
    if error["type"] == "extra_forbidden":
        return f"there is no key {place!r}, take it out or correct it"
    return f"{place} {demand_of(error)}".strip()
