"""The key of an artifact: everything that decides its content, and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib import metadata
from typing import Any

from mlc.store.hashing import canonical_json, digest_data

RULE = 2
"""Number of the rule by which keys are made now. It goes up when other things than before are digested: 2 leaves out of
``sources`` what computes nothing."""
_FIRST_RULE = 1
"""Of keys that do not say by which rule they were made."""
PENDING = "pending:"
"""Begins the digest of an artifact that a plan only foresees."""
_DIGEST_LENGTH = 64
_SHOWN = 80
"""Letters of values that are told whole; longer ones, such as lists, say nothing in a line."""
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
_OF_CODE = ("version", "libraries", "sources")
"""Parts of which a person can tell that a change of them does not change the result."""
_OTHER_RULE = "keys are made in another way since this release"


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
    rule: int = _FIRST_RULE
    """By which :data:`RULE` the parts were chosen; a manifest that does not say is from before they had numbers."""

    @cached_property
    def key(self) -> str:
        """SHA-256 over all parts, as hexadecimal text."""
        parts = asdict(self)
        if self.rule == _FIRST_RULE:
            del parts["rule"]
        return digest_data(parts)

    def differences(self, other: "KeyParts") -> list[str]:
        """Says in which parts two keys differ, such as ``configuration align.steps 3 → 4``, ``input es is new``.

        Source files are not compared one by one where keys are made by another rule: that all of them differ tells
        nothing of the code.

        Args:
            other: The earlier parts.
        """
        found = self.differences_of_work(other) + self._told(other, "version", "libraries")
        return [*found, _OTHER_RULE] if self.rule != other.rule else found + self._told(other, "sources")

    def differences_of_work(self, other: "KeyParts") -> list[str]:
        """Of :meth:`differences`, those that make it other work, whatever the code: settings, inputs, models, seed.

        Args:
            other: The earlier parts.
        """
        return self._told(other, *(part for part in _WORDS if part not in _OF_CODE))

    def _told(self, other: "KeyParts", *chosen: str) -> list[str]:
        # As they are in a manifest, where a tuple is a list.
        old, new = (json.loads(canonical_json(asdict(parts))) for parts in (other, self))
        found = []
        for part in chosen:
            word = _WORDS[part]
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
    if _is_opaque(before) or _is_opaque(after) or len(f"{before}{after}") > _SHOWN:
        return f"{subject} changed"
    return f"{subject} {before} → {after}"


def _is_opaque(value: Any) -> bool:
    return isinstance(value, str) and (len(value) == _DIGEST_LENGTH or value.startswith(PENDING))
