"""Artifacts on disk: written atomically, verified when read, never trusted without a manifest.

Layout of a workspace::

    artifacts/<kind>/<key>/…          the files of one artifact
    artifacts/<kind>/<key>/manifest.json
    artifacts/.drafts/                unfinished artifacts; never read
    artifacts/.partial/<kind>-<key>/  work from which the next attempt at an artifact may go on
    artifacts/.locks/                 who makes which artifact
    artifacts/.damaged/               what failed verification, kept for a person to look at
    artifacts/.fetched/               copies of registered versions that no artifact here stands for
    damages.jsonl                     what that was, see :mod:`mlc.store.damages`
"""

import errno
import json
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mlc.errors import UserError
from mlc.stopping import ShouldStop
from mlc.store.claims import Claims, claimed
from mlc.store.damages import note_damage, read_damages
from mlc.store.drafts import draft_beside, link_file, place_folder
from mlc.store.hashing import digest_data, digest_file, folder_files
from mlc.store.keys import KeyParts
from mlc.store.locks import file_lock
from mlc.store.manifests import MANIFEST, known_manifest, read_manifest, write_manifest
from mlc.store.names import is_artifact, lies_in

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DAMAGES = (ValueError, OSError, KeyError, TypeError, AttributeError)
"""What reading a damaged artifact can end in."""
_SHOWN = 100
"""Letters of a wrong name that are shown."""
_SHARED_BYTES = 1 << 20
"""A file as large as this lies on the disk once for all artifacts of its stage that hold it."""
_KEY_IN_NAMES = 32
"""Hexadecimal digits of a key in names of files that are not artifacts."""
SPENT_FILE = "spent.json"
"""In a folder of partial work: seconds that earlier attempts worked on it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArtifactRef:
    """What tasks hand on instead of data: which artifact, where, and what its content must be."""

    kind: str
    """Name of the stage that made it."""
    key: str
    """Key of the artifact, see :class:`mlc.store.keys.KeyParts`."""
    path: str
    """Folder of the artifact, relative to the workspace, with forward slashes."""
    sha256: str
    """Digest over the names and contents of its files."""
    rows: int | None = None
    """Number of rows, where the artifact is a table."""


@dataclass
class Draft:
    """An artifact that is being written."""

    path: Path
    """Folder to write into; it becomes the artifact's folder at the end."""
    rows: int | None = None
    """Set by the writer where the artifact is a table."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain data for the manifest that does not belong to the content: counts, warnings."""


_NO_DATABASE = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""In paths that SQLAlchemy would take for something else."""


class Remote(Claims, Protocol):
    """A second place for artifacts, see :class:`mlc.store.remote.RemoteArtifacts`."""

    def manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        """Manifest of an artifact; None if there is no whole one."""

    def push(self, folder: Path, kind: str, key: str, *, over: bool = False) -> bool:
        """Copies an artifact there, unless another one was first; tells whether what is there has the same content."""

    def pull(self, folder: Path, kind: str, key: str) -> bool:
        """Copies an artifact from there; tells whether there was one."""


class ArtifactStore:
    """The artifacts of one workspace folder.

    Args:
        workspace: Folder of the workspace; made if it is not there, but for who only looks.
        remote: A second place, whose word counts for all workspaces that have it in common: what is missing here is
            taken from there, what is made here is copied there, and where both have an artifact, that one is used.
        looking: Only to look at: nothing is made, and a folder that cannot be written, or is not there, will do.
        durable: Whether what is made is to outlast a loss of power; a folder that goes with its process waits for no
            disk.

    Raises:
        UserError: The folder cannot be made or written, or has a name that no database can have.
    """

    def __init__(
        self, workspace: Path, remote: Remote | None = None, *, looking: bool = False, durable: bool = True
    ) -> None:
        self.remote = remote
        self.durable = durable
        self.looking = looking
        self.writable = True
        self._distrusted: set[tuple[str, str]] = set()
        """What was found damaged in the other place, and is put there anew."""
        self.workspace = workspace.resolve()
        if _NO_DATABASE.search(str(self.workspace)):
            raise UserError(
                f"The workspace {str(self.workspace)!r} has a question mark, or a percent sign with two digits, in its "
                "path, and Prefect and MLflow name their databases there by URLs, which would mean another place: give "
                "the folder another name.",
                about="workspace",
            )
        self.root = self.workspace / "artifacts"
        self._past: dict[str, dict[str, dict[str, Any] | None]] = {}
        if looking:
            self.writable = os.access(self.root, os.W_OK)
            return
        try:
            for folder in (self._drafts, self._damaged):
                folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK):
                raise PermissionError("Permission denied")
        except OSError as error:
            raise _not_writable(self.workspace, error) from None

    @property
    def _drafts(self) -> Path:
        return self.root / ".drafts"

    @property
    def fetched(self) -> Path:
        """Folder for copies of what lies elsewhere and can be copied again."""
        return self.root / ".fetched"

    @property
    def _damaged(self) -> Path:
        return self.root / ".damaged"

    def making(
        self,
        kind: str,
        key: str,
        *,
        on_wait: Callable[[], None] = lambda: None,
        should_stop: ShouldStop | None = None,
    ) -> AbstractContextManager[None]:
        """Keeps every other thread and process from making the same artifact during a block; waits for its turn.

        Args:
            kind: Name of the stage.
            key: Key of the artifact.
            on_wait: Called once if another one is making it.
            should_stop: Looked at while waiting.
        """
        lock = self.root / ".locks" / f"{kind}-{key[:_KEY_IN_NAMES]}.lock"
        return file_lock(lock, on_wait=on_wait, should_stop=should_stop)

    def claiming(
        self,
        kind: str,
        key: str,
        *,
        on_wait: Callable[[], None] = lambda: None,
        should_stop: ShouldStop | None = None,
    ) -> AbstractContextManager[None]:
        """Keeps machines that have the other place in common from making one artifact; for who holds :meth:`making`.

        Args:
            kind: Name of the stage.
            key: Key of the artifact.
            on_wait: Called once if another machine is making it.
            should_stop: Looked at while waiting.
        """
        if self.remote is None:
            return nullcontext()
        remote = self.remote
        return claimed(
            remote,
            kind,
            key,
            holder=f"{socket.gethostname()}:{self.workspace}",
            made=lambda: remote.manifest(kind, key) is not None,
            on_wait=on_wait,
            should_stop=should_stop,
        )

    def partial(self, kind: str, key: str) -> Path:
        """Folder for work from which the next attempt at an artifact may go on; for who holds :meth:`making`."""
        return self.root / ".partial" / f"{kind}-{key[:_KEY_IN_NAMES]}"

    def clear_drafts(self) -> None:
        """Removes what killed runs left unfinished; only for who is alone in the workspace."""
        if lies_in(self._drafts, self.workspace):
            for draft in self._drafts.iterdir():
                shutil.rmtree(draft, ignore_errors=True)

    def place(self, kind: str, key: str) -> Path:
        """Absolute folder that an artifact has, or would have.

        Raises:
            UserError: These are no names of a kind and a key.
        """
        if not is_artifact(kind, key):
            raise UserError(
                f"{f'{kind}/{key}'[:_SHOWN]!r} names no artifact: a kind is a stage, a key has 64 hexadecimal digits."
            )
        return self.root / kind / key

    def folder(self, ref: ArtifactRef) -> Path:
        """Absolute folder of an artifact, which another machine may have made: then it is taken from the other place.

        Who only looks at a workspace takes nothing, and the folder may be missing.

        Raises:
            UserError: The other place has not that artifact.
        """
        folder = self.workspace / ref.path
        if self.remote is None or self.looking or self._content_of(folder) == ref.sha256:
            return folder
        if self._fetch(ref.kind, ref.key, over=True) != ref:
            raise UserError(
                f"The {ref.kind} artifact {ref.key[:12]} is neither in the workspace {str(self.workspace)!r} nor whole "
                "in the storage: run again, and it is made again."
            )
        return folder

    @staticmethod
    def _content_of(folder: Path) -> str | None:
        """Digest of what a folder holds, as its manifest has it."""
        try:
            return str(known_manifest(folder / MANIFEST)["sha256"])
        except (ValueError, OSError):
            return None

    def glance(self, kind: str, key: str) -> ArtifactRef | None:
        """Looks whether an artifact is there, by its manifest and the sizes of its files alone; changes nothing."""
        try:
            return self._verify(self.place(kind, key), kind, key, contents=False)
        except _DAMAGES:
            pass
        manifest = self.remote.manifest(kind, key) if self.remote else None
        if manifest is None or (manifest["kind"], manifest["key"]) != (kind, key):
            return None
        return ArtifactRef(kind, key, f"artifacts/{kind}/{key}", manifest["sha256"], manifest["rows"])

    def intact(self, kind: str, key: str) -> ArtifactRef | None:
        """Looks for an intact artifact in this place as :meth:`find` does, and changes nothing."""
        try:
            return self._verify(self.place(kind, key), kind, key)
        except _DAMAGES:
            return None

    def find(self, kind: str, key: str, *, own: bool = False) -> ArtifactRef | None:
        """Looks for an intact artifact: every file by its digest, every table by its rows.

        A damaged one is set aside, with a warning that says what is wrong, and counts as missing; where nothing can be
        written, it only counts as missing.

        Args:
            kind: Name of the stage.
            key: Key of the artifact.
            own: Whether the one in this workspace counts before that in the other place, because it stands for
                something that each workspace may have for itself.
        """
        if not self.writable:
            return self.intact(kind, key)
        ref = self._find_here(kind, key)
        if self.remote is None:
            return ref
        if ref is None:
            return self._fetch(kind, key)
        folder = self.workspace / ref.path
        if self.remote.push(folder, kind, key) or own:
            return ref
        # Another machine was first, and what follows there is made from its artifact.
        if theirs := self._fetch(kind, key, over=True):
            return theirs
        self.remote.push(folder, kind, key, over=True)
        return ref

    def _fetch(self, kind: str, key: str, *, over: bool = False) -> ArtifactRef | None:
        """Takes an artifact from the other place, if there is a whole one.

        Args:
            kind: Name of the stage.
            key: Key of the artifact.
            over: Whether it takes the place of the one here.
        """
        place = self.place(kind, key)
        before = self._content_of(place)
        with file_lock(self.root / ".locks" / f"fetch-{kind}-{key[:_KEY_IN_NAMES]}.lock"):
            if self._content_of(place) not in (None, before):
                # Another thread or process took it over meanwhile.
                return self.intact(kind, key)
            return self._taken_over(kind, key, over)

    def _taken_over(self, kind: str, key: str, over: bool) -> ArtifactRef | None:
        assert self.remote is not None
        draft = self._drafts / uuid.uuid4().hex
        try:
            with plain_disk_errors(self.workspace):
                draft.mkdir()
                if not self.remote.pull(draft, kind, key):
                    self._distrusted.add((kind, key))
                    return None
                try:
                    theirs = self._verify(draft, kind, key)
                except _DAMAGES as problem:
                    self._distrusted.add((kind, key))
                    note_damage(self.workspace, kind, key, f"{problem}, in the storage")
                    logger.warning(
                        "The %s artifact %s in the storage is damaged (%s); it is made again.", kind, key[:12], problem
                    )
                    return None
                if over and self._content_of(self.place(kind, key)) != theirs.sha256:
                    with suppress(FileNotFoundError):  # there is none
                        self.place(kind, key).rename(self._drafts / uuid.uuid4().hex)
                self._place(draft, kind, key)
            return self.reference(kind, key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _find_here(self, kind: str, key: str) -> ArtifactRef | None:
        folder = self.place(kind, key)
        if not folder.exists():
            return None
        try:
            return self._verify(folder, kind, key)
        except _DAMAGES as problem:
            note_damage(self.workspace, kind, key, str(problem))
            logger.warning(
                "The %s artifact %s is damaged (%s); it is set aside and made again.", kind, key[:12], problem
            )
            with suppress(FileNotFoundError):  # another process set it aside first
                folder.rename(self._aside(kind, key))
            return None

    def reference(self, kind: str, key: str) -> ArtifactRef:
        """The reference of an artifact that was just written; its files are not read again."""
        manifest = self.manifest(kind, key)
        folder = self.place(kind, key)
        return ArtifactRef(
            kind, key, folder.relative_to(self.workspace).as_posix(), manifest["sha256"], manifest["rows"]
        )

    def damage_of(self, kind: str, key: str) -> str | None:
        """What was wrong with an artifact when it was last found damaged; None if it never was."""
        found = [damage for damage in read_damages(self.workspace) if (damage.kind, damage.key) == (kind, key)]
        return found[-1].problem if found else None

    def discard(self, ref: ArtifactRef) -> None:
        """Sets an artifact aside that is intact but no longer holds."""
        self.folder(ref).rename(self._aside(ref.kind, ref.key))

    def _aside(self, kind: str, key: str) -> Path:
        return self._damaged / f"{kind}-{key[:12]}-{uuid.uuid4().hex[:8]}"

    def manifest(self, kind: str, key: str) -> dict[str, Any]:
        """Manifest of an artifact: key parts, files with digests, rows, times, facts."""
        path = self.place(kind, key) / MANIFEST
        if not path.exists() and self.remote and (elsewhere := self.remote.manifest(kind, key)):
            return elsewhere
        return read_manifest(path)

    def manifests(self, kind: str) -> list[dict[str, Any]]:
        """Every manifest of one kind, the one that has had its key longest first; only to be read."""
        found = []
        for path in (self.root / kind).glob(f"*/{MANIFEST}"):
            if manifest := _legible(path):
                found.append((_since(manifest), path.parent.name, manifest))
        return [manifest for _, _, manifest in sorted(found, key=lambda entry: entry[:2])]

    def past(self, kind: str) -> list[dict[str, Any]]:
        """What :meth:`manifests` gives, each read once while this store is used: for who asks again at every task.

        An artifact that was damaged meanwhile is told of as it was.
        """
        known = self._past.get(kind, {})
        folder = self.root / kind
        keys = set(os.listdir(folder)) if folder.is_dir() else set()
        if keys != known.keys():
            read = {key: known[key] if key in known else _legible(folder / key / MANIFEST) for key in keys}
            known = dict(sorted(read.items(), key=lambda entry: (_since(entry[1]) if entry[1] else "", entry[0])))
            self._past[kind] = known
        return [manifest for manifest in known.values() if manifest]

    @contextmanager
    def writing(
        self, kind: str, parts: KeyParts, *, clock: Callable[[], float] = time.perf_counter, own: bool = False
    ) -> Iterator[Draft]:
        """Gives a draft folder; when the block ends without an error, its content becomes the artifact.

        Nothing is visible under the artifact's name before it is complete and on the disk. If another process
        finished the same artifact meanwhile, or another machine did that has the storage in common, that one stays.

        Where the block ends with an error and left work in :meth:`partial`, the time is kept there too, and counts for
        the artifact that the next attempt makes of it.

        Args:
            kind: Name of the stage.
            parts: Key parts of the artifact.
            clock: Seconds, for the manifest's note of how long it took.
            own: As for :meth:`find`.

        Raises:
            UserError: The disk is full or cannot be written.
        """
        path = self._drafts / uuid.uuid4().hex
        draft = Draft(path)
        spent = self.partial(kind, parts.key) / SPENT_FILE
        started = clock() - _spent_before(spent)
        try:
            with plain_disk_errors(self.workspace):
                path.mkdir()
                yield draft
                self._commit(draft, kind, parts, clock() - started, own)
        except BaseException:
            if spent.parent.is_dir():
                with suppress(OSError):
                    spent.write_text(json.dumps(clock() - started), encoding="utf-8")
            raise
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _commit(self, draft: Draft, kind: str, parts: KeyParts, seconds: float, own: bool) -> None:
        files = {
            path.relative_to(draft.path).as_posix(): {
                "sha256": digest_file(path),
                "bytes": path.stat().st_size,
                **_table_facts(path),
            }
            for path in folder_files(draft.path)
        }
        manifest = {
            "kind": kind,
            "key": parts.key,
            "parts": asdict(parts),
            "sha256": _content_digest(files),
            "rows": draft.rows,
            "files": files,
            "created": datetime.now(UTC).isoformat(),
            "seconds": round(seconds, 3),
            "facts": draft.facts,
        }
        write_manifest(draft.path, manifest, durable=self.durable)
        self._publish(draft.path, kind, parts.key, over=own)

    def also_under(self, kind: str, key: str, parts: KeyParts, note: Mapping[str, Any]) -> ArtifactRef | None:
        """Gives an artifact one more key. Its files and their digest stay as they are, and so does the first key.

        Args:
            kind: Name of the stage.
            key: Key of the artifact.
            parts: What the other key is made of.
            note: Plain data for the list ``kept`` in the manifest of the other key.

        Returns:
            The artifact under the other key; None if there is no intact one under ``key``.

        Raises:
            UserError: The workspace cannot be written.
        """
        with self.making(kind, parts.key):
            if (there := self.find(kind, parts.key)) is not None:
                return there
            ref = self.find(kind, key)
            if ref is None:
                return None
            manifest = self.manifest(kind, key)
            kept = [*manifest.get("kept", ()), dict(note)]
            draft = self._drafts / uuid.uuid4().hex
            try:
                with plain_disk_errors(self.workspace):
                    draft.mkdir()
                    for name in manifest["files"]:
                        link_file(self.folder(ref) / name, draft / name)
                    named = {**manifest, "key": parts.key, "parts": asdict(parts), "kept": kept}
                    write_manifest(draft, named, durable=self.durable)
                    self._publish(draft, kind, parts.key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return self.reference(kind, parts.key)

    def _publish(self, draft: Path, kind: str, key: str, *, over: bool = False) -> None:
        """Gives an artifact its name here and in the other place; where another machine was first, it takes that one.

        The other place comes first, so that nobody here sees what does not stay.
        """
        over = over or (kind, key) in self._distrusted
        try:
            if self.remote and not self.remote.push(draft, kind, key, over=over):
                if self._fetch(kind, key):
                    return
                self.remote.push(draft, kind, key, over=True)
        except UserError:
            # What is finished must not be lost with the connection.
            self._place(draft, kind, key)
            raise
        self._place(draft, kind, key)

    def _place(self, draft: Path, kind: str, key: str) -> None:
        """Gives a whole artifact its name, unless another process was first."""
        target = self.place(kind, key)
        self._share(draft, kind)
        # What is there and damaged is set aside when it is looked at.
        if not place_folder(draft, target, durable=self.durable) and self._find_here(kind, key) is None:
            place_folder(draft, target, durable=self.durable)

    def _share(self, draft: Path, kind: str) -> None:
        """Puts second names of files that other artifacts of the stage hold in the place of large copies of them."""
        files = read_manifest(draft / MANIFEST)["files"]
        large = {name: entry["sha256"] for name, entry in files.items() if entry["bytes"] >= _SHARED_BYTES}
        if not large:
            return
        others = {
            entry["sha256"]: self.root / kind / manifest["key"] / name
            for manifest in self.past(kind)
            for name, entry in manifest["files"].items()
            if entry["sha256"] in large.values()
        }
        for name, digest in large.items():
            own, other = draft / name, others.get(digest)
            # Of an artifact that was set aside or damaged meanwhile there is nothing to share.
            with suppress(OSError):
                if (
                    other is None
                    or not lies_in(other, self.root)
                    or other.samefile(own)
                    or digest_file(other) != digest
                ):
                    continue
                shared = draft_beside(own)
                os.link(other.resolve(), shared)
                shared.replace(own)

    def _verify(self, folder: Path, kind: str, key: str, *, contents: bool = True) -> ArtifactRef:
        manifest_path = folder / MANIFEST
        if not manifest_path.exists():
            raise ValueError("it has no manifest")
        manifest = read_manifest(manifest_path)
        if manifest["key"] != key or manifest["kind"] != kind:
            raise ValueError("its manifest belongs to another artifact")
        for name, expected in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise ValueError(f"its file {name} is missing")
            if not lies_in(path, folder):
                raise ValueError(f"its file {name} lies elsewhere")
            if path.stat().st_size != expected["bytes"]:
                raise ValueError(f"its file {name} has changed")
            if contents and digest_file(path) != expected["sha256"]:
                raise ValueError(f"its file {name} has changed")
            if contents and any(expected.get(fact) != found for fact, found in _table_facts(path).items()):
                raise ValueError(f"its file {name} has other rows or columns than were noted")
        if _content_digest(manifest["files"]) != manifest["sha256"]:
            raise ValueError("its digest does not match its files")
        return ArtifactRef(kind, key, f"artifacts/{kind}/{key}", manifest["sha256"], manifest["rows"])


def _legible(path: Path) -> dict[str, Any] | None:
    """A manifest; None, with a warning, if it cannot be read."""
    try:
        return known_manifest(path)
    except (ValueError, OSError):
        folder = path.parent
        logger.warning("The manifest of %s artifact %s cannot be read.", folder.parent.name, folder.name[:12])
        return None


def _table_facts(path: Path) -> dict[str, Any]:
    """Rows and columns of a table, from the end of its file; nothing for other files."""
    if path.suffix != ".parquet":
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            columns = {column.name: str(column.type) for column in table.schema_arrow}
            return {"rows": table.metadata.num_rows, "columns": columns}
    except pa.ArrowException as error:
        # What Arrow says of a broken file can hold pieces of it, and so of a prompt.
        raise ValueError(f"its file {path.name} cannot be read ({type(error).__name__})") from None


def _since(manifest: Mapping[str, Any]) -> str:
    """When an artifact got its key: when it was made, or kept."""
    kept = manifest.get("kept")
    return str(kept[-1]["when"] if kept else manifest["created"])


def _spent_before(path: Path) -> float:
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0.0


def _content_digest(files: dict[str, dict[str, Any]]) -> str:
    return digest_data({name: entry["sha256"] for name, entry in files.items()})


@contextmanager
def plain_disk_errors(workspace: Path) -> Iterator[None]:
    """Tells in one sentence that a workspace cannot be written, whichever library found out.

    Raises:
        UserError: The disk is full, or cannot be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (cause := _disk_error(error)) is not None:
            raise _not_writable(workspace, cause) from error
        raise


def _disk_error(error: BaseException | None) -> OSError | None:
    """The error of the disk behind an error, if that is what it comes from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        if os.strerror(errno.ENOSPC) in str(error):  # libraries in other languages have errors of their own
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        error = error.__cause__ or error.__context__
    return None


def _not_writable(workspace: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = (
        "make room and run again; what is finished is kept"
        if full
        else "name another folder, or change its permissions"
    )
    return UserError(
        f"The workspace {str(workspace)!r} cannot be written ({reason}): {remedy}.",
        about="full workspace" if full else "workspace",
    )
