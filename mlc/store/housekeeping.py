"""What may go from a workspace."""

import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc.store.artifacts import ArtifactStore
from mlc.store.hashing import folder_files
from mlc.store.keeping import kept_notes
from mlc.store.names import is_artifact, lies_in
from mlc.store.runs import RunRecord

Artifact = tuple[str, str]
"""Stage and key."""
Links = Counter[tuple[int, int]]
"""Names seen of each file, by device and inode."""


@dataclass(frozen=True)
class Garbage:
    """Something that nothing kept needs."""

    path: Path
    bytes: int
    what: str
    """Stage of an artifact, or what else it is."""


def kept_runs(records: Sequence[RunRecord], count: int) -> list[RunRecord]:
    """The last completed runs, and whatever began after the first of them.

    A run that failed or was killed is about to be tried again, so what it made is still wanted.

    Args:
        records: Of the workspace, oldest first.
        count: How many completed runs to keep.
    """
    completed = [record.number for record in records if record.end == "completed"]
    first = completed[-count] if len(completed) >= count else 0
    return [record for record in records if record.number >= first]


def artifacts_of(records: Iterable[RunRecord]) -> set[Artifact]:
    """Every artifact that runs made or found."""
    return {(task["stage"], task["key"]) for record in records for task in record.tasks}


def direct_inputs(store: ArtifactStore, artifacts: Iterable[Artifact]) -> set[Artifact]:
    """The artifacts that others were made from, one step back; found by their content."""
    by_content: dict[str, set[Artifact]] = {}
    for kind in _kinds(store):
        for manifest in store.manifests(kind):
            by_content.setdefault(manifest["sha256"], set()).add((kind, manifest["key"]))
    found: set[Artifact] = set()
    for kind, key in artifacts:
        for digest in store.manifest(kind, key)["parts"]["inputs"].values():
            found |= by_content.get(digest, set())
    return found


def garbage(store: ArtifactStore, needed: set[Artifact], *, unfinished: bool) -> list[Garbage]:
    """What can go: artifacts that are not needed, damaged ones, drafts, copies from elsewhere and locks.

    Args:
        store: The workspace's.
        needed: Artifacts to keep; with them stay those that a person kept from them, which no run may have read yet.
        unfinished: Also work from which a stage that was stopped would go on.

    Returns:
        Only what lies in the workspace itself and has the name of something that the store makes: a link is removed
        as a link, and what lies behind a linked folder stays.
    """
    needed = needed | _kept_from(store, needed)
    links: Links = Counter()
    found = [
        Garbage(path, _freed(path, links), kind)
        for kind in _kinds(store)
        for path in _members(store, kind)
        if is_artifact(kind, path.name) and (kind, path.name) not in needed
    ]
    asides = {".damaged": "damaged", ".drafts": "draft", ".fetched": "fetched", ".locks": "lock"}
    if unfinished:
        asides[".partial"] = "unfinished"
    for folder, what in asides.items():
        found += [Garbage(path, _freed(path, links), what) for path in _members(store, folder)]
    return found


def _kept_from(store: ArtifactStore, needed: set[Artifact]) -> set[Artifact]:
    return {
        (kind, manifest["key"])
        for kind in _kinds(store)
        for manifest in store.manifests(kind)
        if any((kind, note.old_key) in needed for note in kept_notes(manifest))
    }


def remove(store: ArtifactStore, found: Iterable[Garbage]) -> None:
    """Removes garbage; a kill in between leaves no half artifact. Only for who is alone in the workspace."""
    for item in found:
        # A draft is never read, whatever is left of it.
        place = store.root / ".drafts" / uuid.uuid4().hex
        item.path.rename(place)
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()


def _kinds(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _members(store: ArtifactStore, name: str) -> list[Path]:
    """What lies in a folder of the store; nothing if that is a link to somewhere else."""
    folder = store.root / name
    return sorted(folder.iterdir()) if folder.is_dir() and lies_in(folder, store.workspace) else []


def _freed(path: Path, links: Links) -> int:
    """Bytes that the disk gets back; a file that artifacts share counts with the last of them to go."""
    total = 0
    if path.is_symlink():
        return total
    for file in folder_files(path) if path.is_dir() else [path]:
        facts = file.stat()
        place = facts.st_dev, facts.st_ino
        links[place] += 1
        if links[place] == facts.st_nlink:
            total += facts.st_size
    return total
