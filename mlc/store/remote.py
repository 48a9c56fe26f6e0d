"""Artifacts in a second place that a URL names, such as a bucket: what one machine made, others take from there.

The workspace stays where stages read and write; the storage gets a copy of every artifact, its manifest last, so that
an upload that was cut off is not seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlc.errors import UserError
from mlc.store.hashing import folder_files
from mlc.store.manifests import LONGEST, MANIFEST, parsed_manifest
from mlc.urls import expanded, redacted


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
            raise UserError(
                f"The storage {redacted(url)!r} cannot be used ({type(error).__name__}): install the package that "
                "it needs, or change the URL."
            ) from None
        self._root = root.rstrip("/")

    def manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        """Manifest of an artifact; None if the storage has no whole one that can be read."""
        with self._told():
            try:
                content = self._files.cat_file(f"{self._folder(kind, key)}/{MANIFEST}", end=LONGEST)
            except FileNotFoundError:
                return None
        try:
            return parsed_manifest(content)
        except ValueError:
            return None

    def push(self, folder: Path, kind: str, key: str) -> None:
        """Copies an artifact there, over what may be there of it.

        Args:
            folder: Its folder in the workspace.
            kind: Name of the stage.
            key: Key of the artifact.
        """
        place = self._folder(kind, key)
        names = [path.relative_to(folder).as_posix() for path in folder_files(folder) if path.name != MANIFEST]
        with self._told():
            # While files change, nobody may trust what was there.
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{place}/{MANIFEST}")
            for name in (*names, MANIFEST):
                target = f"{place}/{name}"
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(folder / name), target)

    def pull(self, folder: Path, kind: str, key: str) -> bool:
        """Copies an artifact from there; whoever asks verifies it.

        Args:
            folder: A folder that is not there yet.
            kind: Name of the stage.
            key: Key of the artifact.

        Returns:
            Whether the storage has one; what was copied need not be whole.
        """
        manifest = self.manifest(kind, key)
        if manifest is None:
            return False
        place = self._folder(kind, key)
        with self._told():
            for name in (*manifest["files"], MANIFEST):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    # Nothing larger than was declared fills the disk.
                    longest = manifest["files"][name]["bytes"] if name in manifest["files"] else LONGEST
                    if self._files.info(f"{place}/{name}")["size"] > longest:
                        return False
                    self._files.get_file(f"{place}/{name}", str(target))
                except FileNotFoundError:
                    return False
        return True

    def _folder(self, kind: str, key: str) -> str:
        return f"{self._root}/artifacts/{kind}/{key}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            raise UserError(
                f"The storage {redacted(self.url)!r} cannot be reached ({type(error).__name__}): run again when it "
                "can, or unset storage; what is finished is in the workspace."
            ) from None
