"""How the artifacts of a run travel as one archive, and what is believed of one that arrives: nothing unchecked.

Layout of an archive, a tar that may be compressed with gzip::

    contents.json                   format, run, artifacts; the digests of the record and of every manifest
    contents.sig                    an Ed25519 signature of contents.json, where the export was signed
    runs/000012.jsonl               the record of the run
    artifacts/<kind>/<key>/…        the files that the manifest declares, and the manifest

A manifest holds the digests of its files and one over all that it says; ``contents.json`` holds those of the
manifests, so that the signature is over everything.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlc.errors import UserError
from mlc.store.artifacts import ArtifactStore
from mlc.store.drafts import draft_file, place_folder
from mlc.store.hashing import digest_file, folder_files
from mlc.store.housekeeping import Artifact, artifacts_of
from mlc.store.keys import KeyParts
from mlc.store.manifests import LONGEST, MANIFEST
from mlc.store.names import is_artifact, is_file_name
from mlc.store.runs import RUNS_FOLDER, RunRecord, is_record_name, read_record, run_records
from mlc.store.signing import sign, signed_by
from mlc.urls import redacted

FORMAT = 1
ENDINGS = (".tar", ".tar.gz", ".tgz")
"""What archives are called."""
CONTENTS_FILE = "contents.json"
SIGNATURE_FILE = "contents.sig"
_COMPRESSED = b"\x1f\x8b"
_CHUNK = 1 << 20
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError)
"""What reading a broken archive can end in."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to."""

    files: int = 200_000
    file_bytes: int = 256 << 30
    total_bytes: int = 1 << 40
    ratio: int = 50
    """Bytes for each byte of the archive. Weights, tables and texts stay far below."""
    free_bytes: int = 64 << 20
    """Bytes that the ratio does not count, for small archives."""


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    new: int
    """Artifacts that are new here."""
    artifacts: int
    """Artifacts in the archive."""
    left_out: int
    """Files in the archive that no manifest declares; they are not taken."""


def export_run(store: ArtifactStore, record: RunRecord, file: Path, *, key_file: Path | None = None) -> int:
    """Writes the artifacts of a run and its record as one archive; each is verified first.

    Args:
        store: The workspace's; it is only read.
        record: The run.
        file: A ``.tar``, or a compressed ``.tar.gz`` or ``.tgz``.
        key_file: An Ed25519 private key in PEM, with which the archive is signed.

    Returns:
        Number of artifacts.

    Raises:
        UserError: An artifact is no longer there or damaged, the key is none, or the file cannot be written.
    """
    artifacts = sorted(artifacts_of([record]))
    for kind, key in artifacts:
        if store.intact(kind, key) is None:
            raise UserError(
                f"The {kind} artifact {key[:12]} of run {record.number} is not there or damaged: run it again, then "
                "export."
            )
    source = store.workspace / RUNS_FOLDER / f"{record.number:06d}.jsonl"
    manifests = {f"{kind}/{key}": digest_file(store.place(kind, key) / MANIFEST) for kind, key in artifacts}
    # Releases before this one wrote down addresses as they were given.
    journal = redacted(source.read_text(encoding="utf-8", errors="replace")).encode()
    contents = json.dumps(
        {
            "format": FORMAT,
            "run": record.number,
            "artifacts": artifacts,
            "manifests": manifests,
            "record": _digest(journal),
        }
    ).encode()
    signature = sign(contents, key_file) if key_file else None
    try:
        with (
            draft_file(file) as draft,
            # Files that artifacts share are written as files, not as links.
            tarfile.open(draft, "w:gz" if file.suffix in (".gz", ".tgz") else "w", dereference=True) as archive,
        ):
            _add(archive, CONTENTS_FILE, contents)
            if signature:
                _add(archive, SIGNATURE_FILE, signature)
            _add(archive, f"{RUNS_FOLDER}/{source.name}", journal)
            for kind, key in artifacts:
                for name in (*store.manifest(kind, key)["files"], MANIFEST):
                    archive.add(store.place(kind, key) / name, f"artifacts/{kind}/{key}/{name}", recursive=False)
    except OSError as error:
        raise UserError(
            f"The archive {str(file)!r} cannot be written ({error.strerror or error}): name another file."
        ) from None
    return len(artifacts)


def telling_secrets(store: ArtifactStore, record: RunRecord) -> list[Artifact]:
    """Artifacts of a run whose manifests hold a secret of a URL, which only earlier releases wrote down.

    An export takes them as they are: a manifest that says something else no longer fits the artifact's key.
    """
    texts = {
        (kind, key): (store.place(kind, key) / MANIFEST).read_text(encoding="utf-8", errors="replace")
        for kind, key in sorted(artifacts_of([record]))
    }
    return [artifact for artifact, text in texts.items() if redacted(text) != text]


def import_archive(
    store: ArtifactStore,
    file: Path,
    *,
    kinds: Collection[str],
    public_key: Path | None = None,
    limits: Limits = Limits(),
) -> Imported:
    """Takes over what :func:`export_run` wrote: everything is verified before anything is put in place.

    Args:
        store: The workspace's.
        file: The archive.
        kinds: Kinds of artifacts that there are.
        public_key: An Ed25519 public key in PEM; an archive that was not signed with its private key is refused.
        limits: How much it may unpack to.

    Raises:
        UserError: It is no such archive, it is damaged, too large or not signed; the workspace is as it was.
    """
    place = store.root / ".drafts" / uuid.uuid4().hex
    try:
        place.mkdir()
        with _told(file):
            _unpack(file, place, limits)
            contents = _read_contents(file, place)
        if public_key is not None:
            _require_signature(file, place, public_key)
        artifacts = _listed(file, contents, kinds)
        arrived = ArtifactStore(place)
        left_out = sum(_checked(arrived, file, contents, artifact) for artifact in artifacts)
        record = _record(file, place, contents, artifacts)
        new = 0
        for kind, key in artifacts:
            if store.find(kind, key) is None:
                new += place_folder(arrived.place(kind, key), store.place(kind, key))
        if record:
            _adopt(store.workspace, *record)
        return Imported(new, len(artifacts), left_out)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack(file: Path, place: Path, limits: Limits) -> None:
    """Writes the files of an archive that have a place in it; the others are passed over."""
    with _opened(file, limits) as content, tarfile.open(fileobj=content, mode="r|") as archive:
        for number, member in enumerate(archive, start=1):
            if number > limits.files:
                raise _too_large(file, f"more than {limits.files} files")
            if member.isdir():
                continue
            if not member.isfile() or member.issparse() or not _has_a_place(member.name):
                raise _not_an_archive(file, "it holds something that no export writes")
            longest = limits.file_bytes if member.name.startswith("artifacts/") else LONGEST
            if member.size > longest:
                raise _too_large(file, f"a file of more than {longest} bytes")
            target = place / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            # A second file of one name is no export's.
            with target.open("xb") as handle:
                shutil.copyfileobj(source or io.BytesIO(), handle, _CHUNK)


def _has_a_place(name: str) -> bool:
    if name in (CONTENTS_FILE, SIGNATURE_FILE):
        return True
    folder, _, rest = name.partition("/")
    if folder == RUNS_FOLDER:
        return is_record_name(rest)
    kind, _, inner = rest.partition("/")
    key, _, inside = inner.partition("/")
    return folder == "artifacts" and is_artifact(kind, key) and is_file_name(inside)


@contextmanager
def _opened(file: Path, limits: Limits) -> Iterator["_Limited"]:
    size = file.stat().st_size
    allowed = min(limits.total_bytes, limits.free_bytes + limits.ratio * size)
    with file.open("rb") as raw:
        compressed = raw.read(len(_COMPRESSED)) == _COMPRESSED
        raw.seek(0)
        if compressed:
            with gzip.open(raw) as inner:
                yield _Limited(inner, file, allowed)
        else:
            yield _Limited(raw, file, allowed)


class _Limited(io.RawIOBase):
    """What an archive unpacks to, as far as it may; also what never becomes a file is counted."""

    def __init__(self, inner: IO[bytes] | gzip.GzipFile, file: Path, allowed: int) -> None:
        self._inner = inner
        self._file = file
        self._allowed = self._left = allowed

    def read(self, size: int = -1, /) -> bytes:
        """Reads on."""
        content = self._inner.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._file, f"more than {self._allowed} bytes")
        return content


def _read_contents(file: Path, place: Path) -> dict[str, Any]:
    if not (place / CONTENTS_FILE).is_file():
        raise _not_an_archive(file, f"it lacks {CONTENTS_FILE}")
    contents: dict[str, Any] = json.loads((place / CONTENTS_FILE).read_bytes())
    if contents["format"] != FORMAT:
        raise UserError(
            f"The archive {str(file)!r} has the format {str(contents['format'])[:12]!r}, not {FORMAT}: update mlc."
        )
    return contents


def _require_signature(file: Path, place: Path, public_key: Path) -> None:
    there = (place / SIGNATURE_FILE).is_file()
    signature = (place / SIGNATURE_FILE).read_bytes() if there else b""
    if not signed_by((place / CONTENTS_FILE).read_bytes(), signature, public_key):
        problem = "is not signed with that key" if there else "is not signed"
        raise UserError(
            f"The archive {str(file)!r} {problem}: have it exported again by whoever holds the private key of "
            f"{str(public_key)!r}."
        )


def _listed(file: Path, contents: dict[str, Any], kinds: Collection[str]) -> list[Artifact]:
    with _told(file):
        artifacts = [(kind, key) for kind, key in contents["artifacts"]]
        for kind, key in artifacts:
            if not is_artifact(kind, key) or kind not in kinds:
                raise _not_an_archive(file, "it lists something that is no artifact of a stage")
    return sorted(set(artifacts))


def _checked(arrived: ArtifactStore, file: Path, contents: dict[str, Any], artifact: Artifact) -> int:
    """Verifies an artifact and removes the files beside it that its manifest does not declare; how many there were."""
    kind, key = artifact
    place = arrived.place(kind, key)
    manifests = contents.get("manifests")
    if (
        arrived.intact(kind, key) is None
        or KeyParts(**(manifest := arrived.manifest(kind, key))["parts"]).key != key
        # Archives of earlier releases list no digests.
        or (manifests is not None and _entry(manifests, f"{kind}/{key}") != digest_file(place / MANIFEST))
    ):
        raise UserError(f"The {kind} artifact {key[:12]} in {str(file)!r} is damaged: export it again.")
    declared = {*manifest["files"], MANIFEST}
    strays = [path for path in folder_files(place) if path.relative_to(place).as_posix() not in declared]
    for path in strays:
        path.unlink()
    return len(strays)


def _entry(values: Any, name: str) -> Any:
    return values.get(name) if isinstance(values, dict) else None


def _record(
    file: Path, place: Path, contents: dict[str, Any], artifacts: list[Artifact]
) -> tuple[RunRecord, Path] | None:
    """The record in an archive, which tells of the artifacts in it and of no others."""
    found = sorted((place / RUNS_FOLDER).iterdir()) if (place / RUNS_FOLDER).is_dir() else []
    if not found:
        return None
    record = read_record(found[0])
    whole = contents.get("record") in (None, _digest(found[0].read_bytes()))
    if len(found) > 1 or record is None or record.damaged or not whole or artifacts_of([record]) - set(artifacts):
        raise UserError(f"The record of the run in {str(file)!r} is damaged: export it again.")
    return record, found[0]


def _adopt(workspace: Path, record: RunRecord, source: Path) -> None:
    """Makes the run of an archive the newest of the workspace, unless it is known there."""
    here = run_records(workspace)
    if record.id and record.id in {other.id for other in here}:
        return
    folder = workspace / RUNS_FOLDER
    folder.mkdir(exist_ok=True)
    number = max((other.number for other in here), default=0) + 1
    while True:
        try:
            # Two imports at once do not get the same number, and what is there is not replaced.
            with (folder / f"{number:06d}.jsonl").open("xb") as handle:
                handle.write(source.read_bytes())
            return
        except FileExistsError:
            number += 1


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Tells in one sentence that an archive is none."""
    try:
        yield
    except UserError:
        raise
    except (*_BROKEN, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise _not_an_archive(file, reason) from None


def _not_an_archive(file: Path, reason: str) -> UserError:
    return UserError(f"The archive {str(file)!r} cannot be read ({reason}): give a whole file that an export made.")


def _too_large(file: Path, what: str) -> UserError:
    return UserError(
        f"The archive {str(file)!r} unpacks to {what}, which is the limit: export fewer runs, or distrust it."
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
