"""The key of an artifact: everything that decides its content, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib import metadata
from typing import Any

from mlc.store.hashing import canonical_json, digest_data

PENDING = "pending:"
"""Begins the digest of an artifact that a plan only foresees."""
_DIGEST_LENGTH = 64
_MISSING = object()
_WORDS = {
    "settings": "configuration",
    "inputs": "input",
    "models": "model",
    "seed": "seed",
    "version": "stage version",
    "libraries": "library",
    "sources": "source file",
}
"""Parts of a key in the order in which a change of them explains most, and what they are called."""


@dataclass(frozen=True)
class KeyParts:
    """The parts whose digest is an artifact's key.

    Paths, host names, batch sizes that do not change results and other languages have no place here.
    """

    stage: str
    """Name of the stage."""
    version: int
    """Version of the stage, raised by hand when its meaning changes."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The part of the configuration that the stage reads, as plain data."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role of each input and the SHA-256 of its content."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Digest of each project source file that the stage imports."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Minor versions of the libraries that decide the numbers."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Identity of each model that the stage loads: content digest or hub revision."""
    seed: int | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 over all parts, as hexadecimal text."""
        return digest_data(asdict(self))

    def differences(self, other: "KeyParts") -> list[str]:
        """Says in which parts two keys differ, such as ``configuration align.steps 3 → 4``, ``input es is new``.

        Args:
            other: The earlier parts.
        """
        # As they are in a manifest, where a tuple is a list.
        old, new = (json.loads(canonical_json(asdict(parts))) for parts in (other, self))
        found = []
        for part, word in _WORDS.items():
            before, after = _flatten(old[part]), _flatten(new[part])
            for name in sorted(before.keys() | after.keys()):
                earlier, later = before.get(name, _MISSING), after.get(name, _MISSING)
                if earlier != later:
                    found.append(_change(word, name, earlier, later))
        return found


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Minor version (``2.13``) of each installed distribution in ``names``."""
    return {name: _minor_version(name) for name in names}


@cache
def _minor_version(name: str) -> str:
    return ".".join(metadata.version(name).split("+")[0].split(".")[:2])


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and (value or not prefix):
        flat: dict[str, Any] = {}
        for name, inner in value.items():
            flat.update(_flatten(inner, f"{prefix}.{name}" if prefix else str(name)))
        return flat
    return {prefix: value}


def _change(word: str, name: str, before: Any, after: Any) -> str:
    subject = f"{word} {name}".strip()
    if before is _MISSING or after is _MISSING:
        return f"{subject} is {'new' if before is _MISSING else 'gone'}"
    if _is_opaque(before) or _is_opaque(after):
        return f"{subject} changed"
    return f"{subject} {before} → {after}"


def _is_opaque(value: Any) -> bool:
    return isinstance(value, str) and (len(value) == _DIGEST_LENGTH or value.startswith(PENDING))
