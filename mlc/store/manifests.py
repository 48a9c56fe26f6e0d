"""Manifests: what an artifact consists of and was made from, under one digest, and read with mistrust."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlc.store.drafts import draft_file
from mlc.store.keeping import Kept
from mlc.store.keys import KeyParts
from mlc.store.names import is_artifact, is_file_name

MANIFEST = "manifest.json"
LONGEST = 1 << 26
"""Bytes above which a file is no manifest."""
_KEPT = 8192
"""Manifests that are kept in memory."""
_DIGEST = "digest"
"""Field with the digest over all the others; manifests of earlier releases have none."""
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "kind": (str,),
    "key": (str,),
    "parts": (dict,),
    "sha256": (str,),
    "rows": (int, type(None)),
    "files": (dict,),
    "created": (str,),
    "facts": (dict,),
}
_NOT_ALWAYS: Mapping[str, tuple[type, ...]] = {"seconds": (int, float), "kept": (list,), _DIGEST: (str,)}


def write_manifest(folder: Path, manifest: Mapping[str, Any], *, durable: bool = True) -> None:
    """Writes the manifest of a folder with the digest over it; last, so that it marks a whole artifact.

    Args:
        folder: The folder.
        manifest: Plain data.
        durable: As for :func:`mlc.store.drafts.draft_file`.
    """
    plain = json.loads(json.dumps({name: value for name, value in manifest.items() if name != _DIGEST}))
    text = json.dumps({**plain, _DIGEST: _digest(plain)}, indent=1, ensure_ascii=False)
    with draft_file(folder / MANIFEST, durable=durable) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a manifest that somebody may have changed.

    Raises:
        ValueError: It is none, or not as it was written.
        OSError: It cannot be read.
    """
    if path.stat().st_size > LONGEST:
        raise ValueError("its manifest is too long")
    return parsed_manifest(path.read_bytes())


def known_manifest(path: Path) -> dict[str, Any]:
    """Reads a manifest as :func:`read_manifest` does, once as long as its file is the same; only to be read.

    A plan and a run ask for every manifest of a stage at each of its tasks.

    Raises:
        ValueError: It is none, or not as it was written.
        OSError: It cannot be read.
    """
    facts = path.stat()
    return _known(path, (facts.st_ino, facts.st_size, facts.st_mtime_ns))


@lru_cache(maxsize=_KEPT)
def _known(path: Path, stamp: tuple[int, int, int]) -> dict[str, Any]:
    return read_manifest(path)


def parsed_manifest(content: bytes) -> dict[str, Any]:
    """The manifest that bytes hold.

    Raises:
        ValueError: It is none, or not as it was written.
    """
    try:
        manifest = json.loads(content)
        problem = _problem(manifest)
    except RecursionError:
        raise ValueError("its manifest is no manifest") from None
    if problem:
        raise ValueError(f"its manifest {problem}")
    return dict(manifest)


def _problem(manifest: Any) -> str | None:
    if not isinstance(manifest, dict):
        return "is no manifest"
    for name, kinds in {**_FIELDS, **_NOT_ALWAYS}.items():
        if name in _FIELDS and name not in manifest:
            return f"lacks {name}"
        if name in manifest and not isinstance(manifest[name], kinds):
            return f"has no readable {name}"
    if unknown := manifest.keys() - _FIELDS.keys() - _NOT_ALWAYS.keys():
        return f"has fields that no manifest has ({len(unknown)})"
    if not is_artifact(manifest["kind"], manifest["key"]):
        return "names no artifact"
    for name, entry in manifest["files"].items():
        if not is_file_name(name) or name == MANIFEST or not _describes_a_file(entry):
            return "describes a file that cannot be"
    if any(not _is_note(entry) for entry in manifest.get("kept", ())):
        return "has no readable kept"
    if not _are_parts(manifest["parts"]):
        return "has no readable parts"
    plain = {name: value for name, value in manifest.items() if name != _DIGEST}
    if _DIGEST in manifest and manifest[_DIGEST] != _digest(plain):
        return "has changed: its digest does not match"
    return None


def _describes_a_file(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("bytes")) is int
        and entry["bytes"] >= 0
    )


def _is_note(entry: Any) -> bool:
    try:
        note = Kept(**entry)
    except TypeError:
        return False
    words = (note.by, note.when, note.reason, note.old_key, note.key)
    return isinstance(note.differences, list) and all(isinstance(word, str) for word in (*words, *note.differences))


def _are_parts(parts: dict[str, Any]) -> bool:
    try:
        found = KeyParts(**parts)
    except TypeError:
        return False
    mappings = (found.settings, found.inputs, found.sources, found.libraries, found.models)
    digests = (found.inputs, found.models)
    return all(isinstance(each, dict) for each in mappings) and all(
        isinstance(value, str) for each in digests for value in each.values()
    )


def _digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
