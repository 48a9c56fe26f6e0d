"""What may go from a workspace, and how a run's artifacts travel as one archive."""

import gzip
import io
import json
import shutil
import tarfile
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.store.artifacts import ArtifactStore
from mlc.store.drafts import draft_file, place_folder
from mlc.store.hashing import folder_files
from mlc.store.keeping import kept_notes
from mlc.store.keys import KeyParts
from mlc.store.runs import RUNS_FOLDER, RunRecord, run_records

FORMAT = 1
CONTENTS_FILE = "contents.json"
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
    """What can go: artifacts that are not needed, damaged ones, drafts and locks.

    Args:
        store: The workspace's.
        needed: Artifacts to keep; with them stay those that a person kept from them, which no run may have read yet.
        unfinished: Also work from which a stage that was stopped would go on.
    """
    needed = needed | _kept_from(store, needed)
    links: Links = Counter()
    found = [
        Garbage(path, _freed(path, links), kind)
        for kind in _kinds(store)
        for path in sorted((store.root / kind).iterdir())
        if (kind, path.name) not in needed
    ]
    asides = {".damaged": "damaged", ".drafts": "draft", ".locks": "lock"}
    if unfinished:
        asides[".partial"] = "unfinished"
    for folder, what in asides.items():
        if (store.root / folder).is_dir():
            found += [Garbage(path, _freed(path, links), what) for path in sorted((store.root / folder).iterdir())]
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
        shutil.rmtree(place) if place.is_dir() else place.unlink()


def export_run(store: ArtifactStore, record: RunRecord, file: Path) -> int:
    """Writes the artifacts of a run and its record as one archive; each is verified first.

    Args:
        store: The workspace's.
        record: The run.
        file: A ``.tar``, or a compressed ``.tar.gz`` or ``.tgz``.

    Returns:
        Number of artifacts.

    Raises:
        UserError: An artifact is no longer there or damaged, or the file cannot be written.
    """
    artifacts = sorted(artifacts_of([record]))
    for kind, key in artifacts:
        if store.find(kind, key) is None:
            raise UserError(
                f"The {kind} artifact {key[:12]} of run {record.number} is not there or damaged: run it again, then "
                "export."
            )
    contents = {"format": FORMAT, "run": record.number, "artifacts": artifacts}
    try:
        with (
            draft_file(file) as draft,
            tarfile.open(draft, "w:gz" if file.suffix in (".gz", ".tgz") else "w") as archive,
        ):
            _add_text(archive, CONTENTS_FILE, json.dumps(contents))
            archive.add(_record_file(store, record), f"{RUNS_FOLDER}/{_record_file(store, record).name}")
            for kind, key in artifacts:
                archive.add(store.root / kind / key, f"artifacts/{kind}/{key}")
    except OSError as error:
        raise UserError(
            f"The archive {str(file)!r} cannot be written ({error.strerror or error}): name another file."
        ) from None
    return len(artifacts)


def import_archive(store: ArtifactStore, file: Path) -> tuple[int, int]:
    """Takes over what :func:`export_run` wrote: everything is verified before anything is put in place.

    Args:
        store: The workspace's.
        file: The archive.

    Returns:
        Artifacts that are new here, and artifacts in the archive.

    Raises:
        UserError: It is no such archive, or it is damaged; the workspace is as it was.
    """
    place = store.root / ".drafts" / uuid.uuid4().hex
    try:
        contents = _unpack(file, place)
        arrived = ArtifactStore(place)
        artifacts = [(str(kind), str(key)) for kind, key in contents["artifacts"]]
        for kind, key in artifacts:
            if arrived.find(kind, key) is None or KeyParts(**arrived.manifest(kind, key)["parts"]).key != key:
                raise UserError(f"The {kind} artifact {key[:12]} in {str(file)!r} is damaged: export it again.")
        new = 0
        for kind, key in artifacts:
            if store.find(kind, key) is None:
                new += place_folder(arrived.root / kind / key, store.root / kind / key)
        _adopt_record(store.workspace, place)
        return new, len(artifacts)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack(file: Path, place: Path) -> dict[str, Any]:
    place.mkdir()
    try:
        with tarfile.open(file, "r:*") as archive:
            # It refuses links, devices and names that lead out of the folder.
            archive.extractall(place, filter="data")
        contents: dict[str, Any] = json.loads((place / CONTENTS_FILE).read_text(encoding="utf-8"))
        if contents["format"] != FORMAT:
            raise UserError(f"The archive {str(file)!r} has the format {contents['format']}, not {FORMAT}: update mlc.")
        return contents
    except FileNotFoundError as error:
        missing = f"it lacks {CONTENTS_FILE}" if file.exists() else error.strerror
        raise _not_an_archive(file, str(missing)) from None
    except UserError:
        raise
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise _not_an_archive(file, type(error).__name__) from None


def _not_an_archive(file: Path, reason: str) -> UserError:
    return UserError(f"The archive {str(file)!r} cannot be read ({reason}): give a whole file that an export made.")


def _adopt_record(workspace: Path, place: Path) -> None:
    """Makes the run of an archive the newest of the workspace, unless it is known there."""
    (record,) = run_records(place) or (None,)
    here = run_records(workspace)
    if record is None or (record.id and record.id in {other.id for other in here}):
        return
    number = max((other.number for other in here), default=0) + 1
    (workspace / RUNS_FOLDER).mkdir(exist_ok=True)
    source = next((place / RUNS_FOLDER).iterdir())
    source.rename(workspace / RUNS_FOLDER / f"{number:06d}.jsonl")


def _record_file(store: ArtifactStore, record: RunRecord) -> Path:
    return store.workspace / RUNS_FOLDER / f"{record.number:06d}.jsonl"


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _kinds(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _freed(path: Path, links: Links) -> int:
    """Bytes that the disk gets back; a file that artifacts share counts with the last of them to go."""
    total = 0
    for file in folder_files(path) if path.is_dir() else [path]:
        facts = file.stat()
        place = facts.st_dev, facts.st_ino
        links[place] += 1
        if links[place] == facts.st_nlink:
            total += facts.st_size
    return total
