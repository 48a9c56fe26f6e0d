"""Finding the policy of a gate by its name or file."""

from pathlib import Path
from typing import Any

from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.evaluation.gate.settings import GateSettings
from mlc.shipped import SHIPPED_PREFIX, resolve_path, shipped_data
from mlc.urls import redacted
from mlc.yaml_text import read_mapping

DEFAULT_POLICY = "strict"
"""The policy where a configuration names none."""


def shipped_policies() -> list[str]:
    """Names of the shipped policies."""
    return sorted(path.stem for path in shipped_data("gates").glob("*.yaml"))


def default_policy() -> GateSettings:
    """The policy of a configuration that names none."""
    return GateSettings.model_validate(read_policy(DEFAULT_POLICY, Path()))


def read_policy(location: str, base: Path) -> dict[str, Any]:
    """The plain values of a policy.

    Args:
        location: Name of a shipped policy, or a YAML file.
        base: Folder that relative paths start from.

    Raises:
        UserError: There is no such policy, or it cannot be read.
    """
    told = redacted(location)
    name = location.removeprefix(f"{SHIPPED_PREFIX}gates/").removesuffix(".yaml")
    shipped = name in shipped_policies() and (location == name or location.startswith(SHIPPED_PREFIX))
    path = shipped_data(f"gates/{name}.yaml") if shipped else resolve_path(location, base)
    if not path.is_file():
        names = shipped_policies()
        hint = hint_among(name, names, f"give a YAML file, or one of {', '.join(names)}.")
        raise UserError(f"There is no gate policy {told!r}: {hint}")
    values = read_mapping(path, f"The gate policy {told!r}", "with conditions")
    return {"name": path.stem, **values}
