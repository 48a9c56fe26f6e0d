"""Tables that lie elsewhere: data sets of the hub, and whatever fsspec opens."""

import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mlc.cache import cache_folder
from mlc.errors import UserError
from mlc.store.drafts import draft_file

HUB_PREFIX = "hf:"

_HUB = re.compile(
    r"hf:(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[^/@:]+))?(?:/(?P<split>[^/@:]+))?(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHANGE_MARKS = ("etag", "mtime", "last_modified", "updated", "created", "md5", "checksum", "size")
"""Facts of a file elsewhere that tell whether it is still the same; stores name them in their own ways."""
_BLOCK = 1 << 20


def hub_files(location: str, what: str) -> tuple[tuple[Path, ...], str]:
    """The files of a data set of the hub, fetched into its cache, and what identifies them.

    Args:
        location: ``hf:owner/name[:config][/split][@revision]``.
        what: What the table is, for messages.

    Raises:
        UserError: There is no such data set, or its configuration or split must be named.
    """
    match = _HUB.fullmatch(location)
    if match is None:
        raise UserError(
            f"The {what} {location!r} is not of the form hf:owner/name, with :config, /split and @revision if needed."
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    name, config, split = match["name"], match["config"], match["split"]
    try:
        commit = _commit(name, match["revision"])
        loaded = datasets.load_dataset(name, config, revision=commit)
    except Exception as error:
        # Hub, network and builder all raise errors of their own; what they say holds no row.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"The {what} {location!r} cannot be had ({reason}): check the name, its configuration, and the connection."
        ) from None
    splits = sorted(loaded)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise UserError(
            f"The {what} {location!r} holds the splits {', '.join(splits)}: name one, such as /{splits[0]}."
        )
    files = tuple(Path(part["filename"]) for part in loaded[split].cache_files)
    return files, f"hub:{name}:{config or ''}/{split}@{commit}"


def fetched(url: str, what: str) -> Path:
    """A local copy of a file elsewhere, fetched again when the original has changed.

    Raises:
        UserError: It cannot be fetched.
    """
    import fsspec

    name = PurePosixPath(url.split("?")[0].split("#")[0]).name or "table"
    folder = cache_folder() / "tables" / hashlib.sha256(url.encode()).hexdigest()[:16]
    copy, note = folder / name, folder / "facts.json"
    try:
        system, path = fsspec.core.url_to_fs(url)
        facts = _marks(system.info(path))
        if copy.is_file() and note.is_file() and facts and json.loads(note.read_text(encoding="utf-8")) == facts:
            return copy
        folder.mkdir(parents=True, exist_ok=True)
        with draft_file(copy) as draft, system.open(path, "rb") as source, draft.open("wb") as target:
            while block := source.read(_BLOCK):
                target.write(block)
        note.write_text(json.dumps(facts), encoding="utf-8")
    except Exception as error:
        # Every kind of store raises errors of its own.
        raise UserError(
            f"The {what} {url!r} cannot be fetched ({type(error).__name__}): check the address and the connection."
        ) from None
    return copy


def _marks(facts: dict[str, Any]) -> dict[str, str]:
    lowered = {key.lower().replace("-", "_"): value for key, value in facts.items()}
    marks = {key: str(lowered[key]) for key in _CHANGE_MARKS if lowered.get(key) is not None}
    # A size alone says nothing of the content.
    return marks if set(marks) - {"size"} else {}


def _commit(name: str, revision: str | None) -> str:
    """The commit of a data set."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants

    # As for models: the local cache answers first, so that what is there needs no network.
    known = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs" / (revision or "main")
    if known.is_file():
        return known.read_text(encoding="utf-8").strip()
    return str(HfApi().dataset_info(name, revision=revision, timeout=10).sha)
