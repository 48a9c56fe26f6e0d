"""The key of an artifact: everything that decides its content, and nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from mlc.store.hashing import digest_data


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

    @property
    def key(self) -> str:
        """SHA-256 over all parts, as hexadecimal text."""
        return digest_data(asdict(self))

    def differences(self, other: "KeyParts") -> list[str]:
        """Names the parts in which two keys differ, such as ``settings.min_script: 0.8 → 0.9``.

        Args:
            other: The earlier parts.
        """
        old, new = _flatten(asdict(other)), _flatten(asdict(self))
        return [
            f"{name}: {_shown(old.get(name))} → {_shown(new.get(name))}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Minor version (``2.13``) of each installed distribution in ``names``."""
    return {name: ".".join(metadata.version(name).split("+")[0].split(".")[:2]) for name in names}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        flat: dict[str, Any] = {}
        for name, inner in value.items():
            flat.update(_flatten(inner, f"{prefix}.{name}" if prefix else str(name)))
        return flat
    return {prefix: value}


def _shown(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
