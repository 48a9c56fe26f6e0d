"""Where a table lies: a file, a folder or pattern of shards, two files side by side, a data set of the hub, a URL."""

import glob
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlc.errors import UserError
from mlc.store.hashing import digest_data, digest_file
from mlc.tables.formats import COMPRESSED_ENDINGS, ReadFormat, ending_of, read_format
from mlc.tables.remote import HUB_PREFIX, fetched, hub_files

_STATE_FILE = "state.json"
_SPLITS_FILE = "dataset_dict.json"
_NOT_ROWS = (_STATE_FILE, _SPLITS_FILE, "dataset_info.json", "dataset_infos.json", "package.json", "config.json")
_SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![A-Za-z])")
_PAIR = re.compile(r"(.*)\{([^{},]+),([^{},]+)\}(.*)")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Place:
    """A table that was found, not yet opened."""

    location: str
    """What the person wrote."""
    files: tuple[Path, ...]
    """Files that hold it, in order; those of parallel lines side by side, all others one after the other."""
    format: ReadFormat | None
    """Its format by the names of the files; None if they name none."""
    columns: tuple[str, ...] = ()
    """Of parallel lines, what the endings of the files name."""
    revision: str | None = field(default=None, compare=False)
    """What identifies a data set of the hub: its name, configuration, split and commit."""

    def identity(self) -> str:
        """Digest of the content; where it lies does not enter it.

        Raises:
            OSError: A file cannot be read.
        """
        if self.revision is not None:
            return digest_data(self.revision)
        digests = [digest_file(file) for file in self.files]
        return digests[0] if len(digests) == 1 else digest_data([*digests, *self.columns])


def is_remote(location: str) -> bool:
    """Whether a location is a data set of the hub or a URL, so that no folder is put before it."""
    return location.startswith(HUB_PREFIX) or "://" in location


def find_place(location: str | Path, *, what: str = "file") -> Place:
    """Finds the files of a table.

    Args:
        location: A file; a folder of shards or one that ``datasets.save_to_disk`` wrote; a pattern such as
            ``part-*.jsonl.gz``; two files of lines side by side, ``corpus.{en,hi}``; a data set of the hub,
            ``hf:owner/name[:config][/split][@revision]``; or a URL.
        what: What the table is, for messages.

    Raises:
        UserError: Several tables could be meant, or a folder or pattern holds none.
    """
    name = str(location)
    if name.startswith(HUB_PREFIX):
        files, revision = hub_files(name, what)
        return Place(name, files, "arrow", revision=revision)
    if "://" in name:
        file = fetched(name, what)
        return Place(name, (file,), read_format(file.name))
    path = Path(location)
    if path.is_dir():
        return _folder(name, path, what)
    if not path.exists():
        if match := _PAIR.fullmatch(name):
            before, first, second, after = match.groups()
            files = tuple(Path(f"{before}{ending}{after}") for ending in (first, second))
            return Place(name, files, "parallel", columns=(first, second))
        if glob.has_magic(name):
            return _shards(name, [Path(found) for found in glob.glob(name)], what)
    return Place(name, (path,), read_format(path.name))


def _folder(name: str, path: Path, what: str) -> Place:
    if (path / _SPLITS_FILE).is_file():
        splits = json.loads((path / _SPLITS_FILE).read_text(encoding="utf-8"))["splits"]
        if len(splits) != 1:
            raise UserError(
                f"The {what} {name!r} holds several splits ({', '.join(splits)}): name one, such as "
                f"{str(path / splits[0])!r}."
            )
        path = path / splits[0]
    if (path / _STATE_FILE).is_file():
        listed = json.loads((path / _STATE_FILE).read_text(encoding="utf-8"))["_data_files"]
        return Place(name, tuple(path / item["filename"] for item in listed), "arrow")
    return _shards(name, [file for file in path.rglob("*") if file.is_file()], what, path)


def _shards(name: str, found: Sequence[Path], what: str, folder: Path | None = None) -> Place:
    files = sorted((file for file in found if _holds_rows(file, folder)), key=_in_order)
    formats = sorted({str(read_format(file.name)) for file in files})
    if not files:
        raise UserError(f"The {what} {name!r} holds no file of rows: name a file, or a folder or pattern of shards.")
    if len(formats) > 1:
        raise UserError(f"The {what} {name!r} holds files of several formats ({', '.join(formats)}): name one of them.")
    splits = sorted({match[1] for file in files if (match := _SPLIT.match(file.name))})
    if len(splits) > 1:
        raise UserError(
            f"The {what} {name!r} holds several splits ({', '.join(splits)}): name one, such as "
            f"{str((folder or files[0].parent) / (splits[0] + '*'))!r}."
        )
    return Place(name, tuple(files), read_format(files[0].name))


def _holds_rows(file: Path, folder: Path | None) -> bool:
    parts = file.relative_to(folder).parts if folder else (file.name,)
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and file.name not in _NOT_ROWS and read_format(file.name) is not None


def _in_order(file: Path) -> list[str | tuple[int, str]]:
    """Shards by their numbers, whether or not these have leading zeros."""
    return [part if place % 2 == 0 else (int(part), part) for place, part in enumerate(_NUMBER.split(file.as_posix()))]


def sibling_lines(path: Path) -> tuple[str, ...]:
    """Files beside one whose ending names no format, alike but for the ending, such as ``corpus.hi`` for ``corpus.en``.

    Returns:
        Their endings, without the dot.
    """
    if read_format(path.name) or not path.suffix or path.suffix.lower() in COMPRESSED_ENDINGS or not path.is_file():
        return ()
    others = (file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if file != path and file.is_file())
    return tuple(sorted(file.suffix[1:] for file in others if file.stem == path.stem and not ending_of_known(file)))


def ending_of_known(file: Path) -> bool:
    """Whether the ending of a file names a format."""
    return read_format(file.name) is not None or ending_of(file.name) != file.suffix.lower()
