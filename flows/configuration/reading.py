"""From a name or a file of YAML to a typed configuration."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from flows.configuration.explaining import place_of, validated
from flows.configuration.files import anchor_paths, find_config, read_yaml, require_sound
from flows.configuration.overrides import combine_languages, set_value
from flows.configuration.pipeline import PipelineConfig
from flows.places import SHIPPED_CONFIGS
from mlc.errors import UserError


def load_config(
    name_or_path: str,
    *,
    languages: Sequence[str] | None = None,
    workspace: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """Loads a configuration.

    Args:
        name_or_path: Name of a shipped configuration, such as ``quickstart``, or a YAML file.
        languages: Languages in place of the configuration's; those that start with ``+`` are added to it and those
            that start with ``-`` are taken away.
        workspace: Workspace in place of the configuration's.
        overrides: Values by dotted key, such as ``{"align.steps": 12}``.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    path = find_config(name_or_path)
    values = read_yaml(path)
    if path.parent != SHIPPED_CONFIGS:
        anchor_paths(values, path.parent.resolve())
    for key, value in (overrides or {}).items():
        set_value(values, key, value)
    return validate_config(changed_values(values, languages=languages, workspace=workspace))


def changed_values(
    values: Mapping[str, Any], *, languages: Sequence[str] | None, workspace: str | None
) -> dict[str, Any]:
    """The plain values of a configuration with a person's choice of languages and workspace.

    Args:
        values: The configuration.
        languages: As for :func:`load_config`.
        workspace: As for :func:`load_config`.

    Raises:
        UserError: As of :func:`combine_languages`.
    """
    changed = dict(values)
    if languages:
        changed["languages"] = combine_languages(values.get("languages") or (), languages)
    if workspace:
        changed["workspace"] = workspace
    return changed


def validate_config(values: Mapping[str, Any]) -> PipelineConfig:
    """Checks plain values and gives the typed configuration.

    Raises:
        UserError: The first thing that is wrong, in one sentence.
    """
    require_sound(values)
    return validated(PipelineConfig, values)


def known_values(values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values of a recorded configuration without the keys that this release does not know, and those keys, dotted.

    Of other mistakes nothing is said: :func:`validate_config` tells them.
    """
    known: dict[str, Any] = deepcopy(dict(values))
    dropped: list[str] = []
    while unknown := _unknown_places(known):
        for *way, key in unknown:
            inner: Any = known
            for part in way:
                inner = inner[part]
            del inner[key]
            dropped.append(".".join(map(str, (*way, key))))
    return known, tuple(dropped)


def _unknown_places(values: Mapping[str, Any]) -> set[tuple[int | str, ...]]:
    try:
        PipelineConfig.model_validate(values)
    except ValidationError as error:
        return {place_of(one["loc"], values) for one in error.errors() if one["type"] == "extra_forbidden"}
    except UserError:
        pass
    return set()
