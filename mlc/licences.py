"""Licences of models: what their cards say, else what is known of them by name. In the key of nothing that is computed.

A licence is written as on the cards of the hub: SPDX in lower case, such as ``apache-2.0`` and ``cc-by-nc-4.0``, or the
name of a licence of the maker's own, such as ``gemma``.
"""

import fnmatch
import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.shipped import resolve_path
from mlc.yaml_text import YamlProblem, parse_yaml

UNKNOWN = "unknown"
"""What is said where nothing tells."""
CARD = "README.md"
KNOWN = (
    ("*nllb-200*", "cc-by-nc-4.0"),
    ("*nllb-moe*", "cc-by-nc-4.0"),
    ("*m2m100*", "mit"),
    ("*opus-mt-tc-*", "cc-by-4.0"),
    ("*opus-mt-*", "apache-2.0"),
    ("*madlad400*", "apache-2.0"),
    ("*madlad-400*", "apache-2.0"),
    ("*mbart-large-50*", "mit"),
    ("*mt5-*", "apache-2.0"),
    ("*t5-*", "apache-2.0"),
    ("*metricx-2*", "apache-2.0"),
    ("*cometkiwi*", "cc-by-nc-sa-4.0"),
    ("*smollm*", "apache-2.0"),
    ("*qwen2.5-3b*", "qwen-research"),
    ("*qwen2.5-72b*", "qwen"),
    ("*qwen2.5-*", "apache-2.0"),
    ("*qwen3-*", "apache-2.0"),
    ("*gemma*", "gemma"),
    ("*llama-3.1-*", "llama3.1"),
    ("*llama-3.2-*", "llama3.2"),
    ("*llama-3.3-*", "llama3.3"),
    ("*towerinstruct*", "cc-by-nc-4.0"),
    ("*aya-*", "cc-by-nc-4.0"),
)
"""Patterns of names in lower case, and the licence of what is called so on the hub; the first that fits counts."""
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.\-]*/[\w.\-]+$")
_FENCE = "---"
_LONGEST_CARD = 1_000_000


@dataclass(frozen=True)
class Licence:
    """The licence of one model of a run."""

    role: str
    """What the model is to the run, such as ``policy``."""
    model: str
    """Its name, as it may be shown anywhere."""
    name: str
    """In lower case, or :data:`UNKNOWN`."""
    told_by: str
    """``configuration``, ``model card``, ``its name``, ``package``; empty where nothing tells."""

    def __str__(self) -> str:
        return f"{self.name} (by {self.told_by})" if self.told_by else self.name


def licence_of(role: str, location: str, *, declared: str | None = None, revision: str | None = None) -> Licence:
    """Finds the licence of a model. Only of a hub id that nothing else tells of, the hub is asked.

    Args:
        role: What the model is to the run.
        location: As a configuration names it: a folder, a file, a hub id, ``package:NAME``, ``shipped:NAME``, or the
            name of a model on a server.
        declared: What a person says; it counts before everything else.
        revision: Branch, tag or commit of a hub id.
    """
    name = _shown(location)
    if declared:
        return Licence(role, name, declared.strip().lower(), "configuration")
    if told := card_licence(_card(location, revision)):
        return Licence(role, name, told, "model card")
    lower = name.lower()
    for pattern, licence in KNOWN:
        if fnmatch.fnmatchcase(lower, pattern):
            return Licence(role, name, licence, "its name")
    if told := _package_licence(location):
        return Licence(role, name, told, "package")
    if told := _hub_licence(location, revision):
        return Licence(role, name, told, "model card")
    return Licence(role, name, UNKNOWN, "")


def card_licence(card: Path | None) -> str:
    """The licence in the metadata of a model card, in lower case; empty where there is none.

    Args:
        card: A file of Markdown with YAML between two lines of ``---`` at its head; it may be missing.
    """
    try:
        text = card.read_text(encoding="utf-8")[:_LONGEST_CARD] if card else ""
    except (OSError, UnicodeDecodeError):
        return ""
    first, *lines = text.splitlines() or [""]
    if first.strip() != _FENCE or _FENCE not in [line.strip() for line in lines]:
        return ""
    end = next(number for number, line in enumerate(lines) if line.strip() == _FENCE)
    try:
        values = parse_yaml("\n".join(lines[:end]))
    except YamlProblem:
        return ""
    return _in_metadata(values) if isinstance(values, dict) else ""


def require_allowed(licences: Iterable[Licence], denied: Sequence[str]) -> None:
    """Refuses models whose licence a person does not want.

    Args:
        licences: Of the models of a run.
        denied: Patterns such as ``cc-by-nc-*``; ``unknown`` denies what nothing tells the licence of.

    Raises:
        UserError: A licence fits a pattern.
    """
    for licence in licences:
        for pattern in denied:
            if fnmatch.fnmatchcase(licence.name, pattern.strip().lower()):
                raise UserError(
                    f"The {licence.role} {licence.model!r} has the licence {licence}, which policy.licences.deny "
                    f"refuses with {pattern!r}: name another model, or change the list."
                )


def _in_metadata(values: dict[str, Any]) -> str:
    told = values.get("license")
    if isinstance(told, list):
        told = " or ".join(map(str, told))
    # The hub has a list of licences, and "other" for whatever is not in it.
    if told == "other" and values.get("license_name"):
        told = values["license_name"]
    return str(told).strip().lower() if told else ""


def _card(location: str, revision: str | None) -> Path | None:
    try:
        path = resolve_path(location, Path.cwd())
    except UserError:
        return None
    if path.exists():
        return (path if path.is_dir() else path.parent) / CARD
    if not _HUB_ID.match(location):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(location, CARD, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _hub_licence(location: str, revision: str | None) -> str:
    if not _HUB_ID.match(location) or resolve_path(location, Path.cwd()).exists():
        return ""
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(location, revision=revision, timeout=10).card_data
    except Exception:  # every way in which a hub can be out of reach; who loads the model tells it
        return ""
    return _in_metadata({name: getattr(card, name, None) for name in ("license", "license_name")})


def _package_licence(location: str) -> str:
    kind, _, package = location.partition(":")
    if kind != "package":
        return ""
    try:
        facts = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    told = next((str(facts[name]).strip() for name in ("License-Expression", "License") if name in facts), "")
    return told.lower() if told and "\n" not in told else ""


def _shown(location: str) -> str:
    """A model as it may be shown anywhere: a folder by its last name only."""
    return Path(location).name if Path(location).expanduser().is_absolute() else location
