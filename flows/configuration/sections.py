"""Sections of a configuration by themselves, for what reads no more than one."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flows.configuration.explaining import validated
from flows.configuration.files import read_yaml
from flows.configuration.overrides import parse_overrides, set_value
from mlc.errors import UserError
from mlc.evaluation.gate.policies import read_policy
from mlc.evaluation.gate.settings import GateSettings
from mlc.quality.settings import QualitySettings
from tasks.runtime.settings import EditStageSettings, PolicySettings


def read_gate(location: str) -> GateSettings:
    """Loads the policy of a gate by itself.

    Args:
        location: Name of a shipped policy, or a YAML file.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    return validated(GateSettings, read_policy(location, Path.cwd()), "gate")


def load_quality(path: str | None, overrides: Mapping[str, Any] | None = None) -> QualitySettings:
    """Loads the thresholds of the filter by themselves.

    Args:
        path: A YAML file with the keys of ``quality``, or a whole configuration; the defaults if None.
        overrides: Values by dotted key below ``quality``, such as ``{"default.length_z": 3}``.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    values: dict[str, Any] = {}
    if path is not None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise UserError(f"There is no file of thresholds {path!r}: give a YAML file with the keys of quality.")
        values = read_yaml(file)
        # A whole configuration names its prompts; thresholds and it both have a key `languages`.
        if {"prompts", "quality"} & set(values):
            values = values.get("quality") or {}
    for key, value in (overrides or {}).items():
        set_value(values, key.removeprefix("quality."), value)
    return validated(QualitySettings, values, "quality")


def parse_edit(pairs: Iterable[str]) -> EditStageSettings:
    """Settings of the section ``edit`` from ``key=value`` texts, such as ``rank=8`` or ``units.z_threshold=3``.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    values: dict[str, Any] = {}
    for key, value in parse_overrides(pairs).items():
        set_value(values, f"edit.{key.removeprefix('edit.')}", value)
    return validated(EditStageSettings, values.get("edit", {}), "edit")


def parse_policy(model: str, variables: Iterable[str] = (), *, allow_pickle: bool = False) -> PolicySettings:
    """The settings of a policy that a command loads by itself.

    Args:
        model: Where it is.
        variables: Variables of its chat template as ``name=value`` texts.
        allow_pickle: Whether weights that are not safetensors may be read.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    given = {"model": model, "allow_pickle": allow_pickle, "chat_template_kwargs": parse_overrides(variables)}
    return validated(PolicySettings, given, "policy")
