"""Finding and loading translation checkpoints, with every failure told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.sources import PICKLED
from mlc.shipped import resolve_path
from mlc.translation.engines.families import FAMILIES, MODEL_TYPES, Family, recognised
from mlc.translation.engines.tokens import CheckpointTokens
from mlc.translation.settings import Device, Precision

_NAMES = [family.name for family in FAMILIES]
THREE_WAYS = (
    "give a hub id such as facebook/nllb-200-distilled-600M, a local folder with an "
    f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]} checkpoint, or shipped:nano."
)


@contextmanager
def told_to_the_user(location: str | Path) -> Iterator[None]:
    """Turns whatever goes wrong in loading into one sentence; the libraries below raise errors of many kinds."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own, and code from a model is never run here"
        elif "use_safetensors" in str(error) or "no file named model.safetensors" in str(error):
            reason = f"it has {PICKLED}"
        raise UserError(f"The translator {str(location)!r} cannot be loaded ({reason}); {THREE_WAYS}") from error


def folder_or_hub_id(location: str | Path) -> str:
    """What transformers can load a checkpoint from.

    Raises:
        UserError: It is a path with no folder there.
    """
    folder = resolve_path(str(location), Path.cwd())
    if folder.is_dir():
        return str(folder)
    looks_like_path = isinstance(location, Path) or location.startswith((".", "/", "~")) or location.count("/") > 1
    if looks_like_path or folder.exists():
        raise UserError(f"The translator {str(location)!r} is not a folder; {THREE_WAYS}")
    return str(location)


def load_tokens(location: str | Path, revision: str | None) -> tuple[Family, CheckpointTokens]:
    """The family and the tokenizer of a checkpoint, once its architecture is known to be one of :data:`MODEL_TYPES`.

    Raises:
        UserError: It cannot be loaded, is another architecture, or knows no languages.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = folder_or_hub_id(location)
    with told_to_the_user(location):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    if config.model_type not in MODEL_TYPES:
        raise UserError(
            f"The translator {str(location)!r} is a {config.model_type} checkpoint, which does not translate; "
            f"{THREE_WAYS}"
        )
    with told_to_the_user(location):
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    return require_tokens(str(location), tokenizer, config)


def require_tokens(name: str, tokenizer: Any, config: Any) -> tuple[Family, CheckpointTokens]:
    """The family of a checkpoint, and its tokenizer wrapped.

    Args:
        name: The checkpoint, as a person knows it.
        tokenizer: Its tokenizer.
        config: Its configuration.

    Raises:
        UserError: It is of no family that is known, or names no languages.
    """
    found = recognised(tokenizer, config)
    if found is None:
        raise UserError(f"The checkpoint {name!r} ({config.model_type}) has no tokens of languages; {THREE_WAYS}")
    return found


def pick_precision(precision: Precision, device: Device) -> Precision:
    """What ``auto`` means on a device."""
    if precision != "auto":
        return precision
    return "float16" if pick_device(device) == "cuda" else "float32"
