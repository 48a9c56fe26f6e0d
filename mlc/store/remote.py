"""Artifacts in a second place that a URL names, such as a bucket: what one machine made, others take from there.

The workspace stays where stages read and write; the storage gets a copy of every artifact::

    artifacts/<kind>/<key>/<digest of the content>/…    the files
    artifacts/<kind>/<key>/manifest.json                which content it is

    claims/<kind>-<key>                                 who makes it, see :mod:`mlc.store.claims`
    runs/<id>/…                                         words of a run, while it goes on

Files of other contents lie apart, and the manifest is put last, in one step, and by one writer only: an upload that was
cut off is not seen, and of two machines that make an artifact at once, the first one decides what it is for both.
Releases before this one put files beside the manifest; these are still read.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlc.errors import OutOfReachError, UserError
from mlc.packages import to_install
from mlc.store.manifests import LONGEST, MANIFEST, parsed_manifest
from mlc.store.names import KEY
from mlc.urls import expanded, redacted

_FOLDERS = frozenset({"file", "local", "sftp", "ssh", "ftp", "smb", "hdfs", "arrow_hdfs", "webhdfs", "dbfs"})
"""Kinds of storage in which a folder must be made before there is a file in it. To others that would be a bucket."""
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "UnauthorizedSSOTokenError")
_NO_BUCKET = "NoSuchBucket"
_NOTHING_IN_IT = "InvalidRange"
_DIGITS = 16
"""Hexadecimal digits of a content's digest in the name of its folder."""


class RemoteArtifacts:
    """The artifacts below a URL.

    Args:
        url: As fsspec has it: ``s3://bucket/folder``, ``gs://…``, ``file:///…``, ``memory://…``; ``${NAME}`` stands for
            an environment variable.

    Raises:
        UserError: The URL is of no known kind, or the package for it is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._files, root = fsspec.core.url_to_fs(expanded(self.url, "storage"))
        except UserError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            lacks_s3 = url.startswith("s3:") and isinstance(error, ImportError)
            way = f"run `{to_install('s3')}`" if lacks_s3 else "install the package that it needs"
            raise UserError(
                f"The storage {redacted(url)!r} cannot be used ({type(error).__name__}): {way}, or change the URL."
            ) from None
        self._root = root.rstrip("/")
        kinds = self._files.protocol
        self._has_folders = not _FOLDERS.isdisjoint((kinds,) if isinstance(kinds, str) else kinds)

    def manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        """Manifest of an artifact; None if the storage has no whole one that can be read."""
        return self._read(kind, key)[1]

    def _read(self, kind: str, key: str) -> tuple[bytes, dict[str, Any] | None]:
        """What lies there as a manifest, and as whole a one as it is."""
        with self._told():
            try:
                content: bytes = self._files.cat_file(self._manifest(kind, key), end=LONGEST)
            except OSError as error:
                # An object without content has no first bytes either.
                if _tells(error, _NOTHING_IN_IT) or (
                    isinstance(error, FileNotFoundError) and not _tells(error, _NO_BUCKET)
                ):
                    return b"", None
                raise
        try:
            manifest = parsed_manifest(content)
        except ValueError:
            return content, None
        return content, manifest if KEY.fullmatch(manifest["sha256"]) else None

    def push(self, folder: Path, kind: str, key: str, *, over: bool = False) -> bool:
        """Copies an artifact there, unless another one was there first.

        Args:
            folder: Where it lies, with its manifest.
            kind: Name of the stage.
            key: Key of the artifact.
            over: Whether it takes the place of what is there.

        Returns:
            Whether what is there now has the same content.
        """
        content = (folder / MANIFEST).read_bytes()
        manifest = parsed_manifest(content)
        first = None if over else self.manifest(kind, key)
        if first is None:
            with self._told():
                for name in manifest["files"]:
                    self._put(folder / name, f"{self._files_of(kind, key, manifest)}/{name}")
            first = self._declare(kind, key, content, over)
        return first is None or first["sha256"] == manifest["sha256"]

    def _put(self, file: Path, target: str) -> None:
        self._make_folder(target)
        self._files.put_file(str(file), target)

    def _make_folder(self, target: str) -> None:
        if self._has_folders:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)

    def _declare(self, kind: str, key: str, content: bytes, over: bool) -> dict[str, Any] | None:
        """Puts a manifest; gives the one of another writer who was first, if there is a whole one."""
        target = self._manifest(kind, key)
        with self._told():
            self._make_folder(target)
            if not over:
                try:
                    self._files.pipe_file(target, content, mode="create")
                    return None
                except OSError:  # one is there, or the storage knows no such condition
                    if first := self.manifest(kind, key):
                        return first
            self._files.pipe_file(target, content)
        return None

    def pull(self, folder: Path, kind: str, key: str) -> bool:
        """Copies an artifact from there; whoever asks verifies it.

        Args:
            folder: A folder with nothing in it.
            kind: Name of the stage.
            key: Key of the artifact.

        Returns:
            Whether the storage has one; what was copied need not be whole.
        """
        content, manifest = self._read(kind, key)
        if manifest is None:
            return False
        own = self._files_of(kind, key, manifest)
        with self._told():
            for name, entry in manifest["files"].items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # Releases before this one put them beside the manifest.
                places = (f"{own}/{name}", f"{self._folder(kind, key)}/{name}")
                if not any(self._get(place, target, entry) for place in places):
                    return False
        (folder / MANIFEST).write_bytes(content)
        return True

    def _get(self, place: str, target: Path, entry: dict[str, Any]) -> bool:
        """Copies a file that is there, unless it is larger than was declared and would fill the disk."""
        try:
            if self._files.info(place)["size"] > entry["bytes"]:
                return False
            self._files.get_file(place, str(target))
        except FileNotFoundError:
            return False
        return True

    def claim(self, kind: str, key: str, content: bytes) -> bytes | None:
        """Puts a claim on an artifact there if there is none; what the other one says if there is one."""
        target = self._claim(kind, key)
        with self._told():
            self._make_folder(target)
            try:
                self._files.pipe_file(target, content, mode="create")
                return None
            except OSError:  # one is there, or the storage knows no such condition
                with suppress(FileNotFoundError):
                    return bytes(self._files.cat_file(target))
            self._files.pipe_file(target, content)
        return None

    def renew_claim(self, kind: str, key: str, content: bytes) -> None:
        """Puts a claim there, over whatever there is."""
        with self._told():
            self._make_folder(self._claim(kind, key))
            self._files.pipe_file(self._claim(kind, key), content)

    def release_claim(self, kind: str, key: str) -> None:
        """Takes a claim away."""
        with self._told(), suppress(FileNotFoundError):
            self._files.rm_file(self._claim(kind, key))

    def tell(self, run_id: str, name: str, content: bytes) -> None:
        """Puts a word about a run there, for processes that share no disk.

        Args:
            run_id: Id of the run.
            name: Name of the word, unlike all others of the run.
            content: What it says.
        """
        with self._told():
            self._make_folder(self._word(run_id, name))
            self._files.pipe_file(self._word(run_id, name), content)

    def told(self, run_id: str, known: Collection[str] = ()) -> dict[str, bytes]:
        """The words about a run by name, in order, without those that are known."""
        with self._told():
            place = self._word(run_id, "").rstrip("/")
            self._files.invalidate_cache(place)
            try:
                names = sorted(str(path).rpartition("/")[2] for path in self._files.ls(place, detail=False))
            except FileNotFoundError:
                return {}
            return {name: self._files.cat_file(self._word(run_id, name)) for name in names if name not in known}

    def heard(self, run_id: str, name: str) -> bool:
        """Whether a word about a run is there."""
        with self._told():
            self._files.invalidate_cache(self._word(run_id, "").rstrip("/"))
            return bool(self._files.exists(self._word(run_id, name)))

    def forget(self, run_id: str) -> None:
        """Takes the words about a run away."""
        with self._told(), suppress(FileNotFoundError):
            self._files.rm(self._word(run_id, "").rstrip("/"), recursive=True)

    def _claim(self, kind: str, key: str) -> str:
        return f"{self._root}/claims/{kind}-{key}"

    def _word(self, run_id: str, name: str) -> str:
        return f"{self._root}/runs/{run_id}/{name}"

    def _folder(self, kind: str, key: str) -> str:
        return f"{self._root}/artifacts/{kind}/{key}"

    def _manifest(self, kind: str, key: str) -> str:
        return f"{self._folder(kind, key)}/{MANIFEST}"

    def _files_of(self, kind: str, key: str, manifest: dict[str, Any]) -> str:
        return f"{self._folder(kind, key)}/{manifest['sha256'][:_DIGITS]}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tells in one sentence why the storage does not do what it is asked, without what it says of credentials."""
        name = redacted(self.url)
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            kind: type[UserError] = UserError
            if isinstance(error, FileNotFoundError):
                told = f"The storage {name!r} is not there: make the bucket, or change storage"
            elif isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
                told = (
                    f"The storage {name!r} refuses access ({type(error).__name__}): check the credentials in the "
                    "environment, and that they may read and write there"
                )
            else:
                kind = OutOfReachError
                told = (
                    f"The storage {name!r} cannot be reached ({type(error).__name__}): run again when it can, or unset "
                    "storage"
                )
            raise kind(f"{told}; what is finished is in the workspace.", about="storage") from None


def _tells(error: BaseException | None, code: str) -> bool:
    """Whether an error comes from a reply of the storage with a code."""
    while error is not None:
        reply = getattr(error, "response", None)
        if isinstance(reply, dict) and reply.get("Error", {}).get("Code") == code:
            return True
        error = error.__cause__ or error.__context__
    return False
