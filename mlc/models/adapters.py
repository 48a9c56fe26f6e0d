"""Adapters of PEFT beside the model that they were trained on: saved alone, and merged into it when they are loaded.

An adapter is a folder with ``adapter_config.json`` and ``adapter_model.safetensors`` as PEFT writes them, the
tokenizer, the generation settings, and ``base.json``: the identity of the model that it belongs to. No path is in it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.models.sources import ADAPTER_FILE, BASE_FILE, ModelSource

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "adapter_model.safetensors"


def is_adapted(model: Any) -> bool:
    """Whether a model carries an adapter of PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


@contextmanager
def without_adapter(model: Any) -> Iterator[Any]:
    """A block in which a model is what it was before its adapter, without dropout; then it is as it was."""
    from mlc.models.modes import asked_only

    with model.disable_adapter(), asked_only(model):
        yield model


def in_shards(tensor: "torch.Tensor") -> bool:
    """Whether each process has a part of a tensor only."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Any) -> "torch.Tensor":
    """A tensor with all of its parts; where it is in shards, all processes have to ask for it."""
    gathered: torch.Tensor = tensor.full_tensor() if in_shards(tensor) else tensor
    return gathered


def save_adapter(
    model: Any, tokenizer: Any, base: ModelSource, folder: Path, *, dtype: str, writes: bool = True
) -> None:
    """Writes the adapter of a model, without the model.

    Args:
        model: A ``PeftModel`` with one adapter. Its weights are written as they are, without rounding.
        tokenizer: Written beside it.
        base: What the adapter was trained on.
        folder: Folder to write into; made if it is not there.
        dtype: Type of the weights once the adapter is merged, such as ``bfloat16``.
        writes: Whether this process writes, as in :func:`mlc.models.loading.save_policy`.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: whole(tensor).detach().to("cpu").contiguous() for name, tensor in sorted(state.items())}
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(folder / WEIGHTS_FILE), metadata={"format": "pt"})
    model.peft_config[model.active_adapter].save_pretrained(str(folder), inference_mode=True)
    name_base(folder, base.target if base.kind == "hub" else None, base.revision)
    model.get_base_model().generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"identity": base.identity, "dtype": dtype}
    (folder / BASE_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def name_base(folder: Path, base: str | None, revision: str | None) -> None:
    """Writes into an adapter's configuration which model it belongs to, as PEFT looks for it.

    Args:
        folder: Folder of the adapter.
        base: Hub id or folder of the model; None = it is not said.
        revision: Commit of a hub model.
    """
    config = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    # PEFT writes sets in the order of their hashes, which differs from process to process.
    ordered = {name: sorted(value) if name == "target_modules" else value for name, value in config.items()}
    ordered |= {"base_model_name_or_path": base, "revision": revision}
    (folder / ADAPTER_FILE).write_text(json.dumps(ordered, indent=1, sort_keys=True), encoding="utf-8")


def with_adapter(model: Any, folder: Path) -> Any:
    """A model with the adapter of a folder, ready to be trained on.

    Args:
        model: What the adapter was trained on.
        folder: Folder of the adapter.
    """
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def with_adapter_merged(model: Any, folder: Path, dtype: "torch.dtype") -> Any:
    """A model with the adapter of a folder in its weights, rounded as the merged model is saved.

    Args:
        model: What the adapter was trained on, in float32; its weights are changed.
        folder: Folder of the adapter.
        dtype: Type of the weights in the end.

    Returns:
        The model without any trace of PEFT.
    """
    import torch

    merged = with_adapter(model, folder).merge_and_unload().requires_grad_(True)
    # What is evaluated is what is registered when the merged model is.
    saved = getattr(torch, merged_dtype(folder))
    for parameter in merged.parameters():
        # Buffers, such as those of positions, stay as precise as they are in a model that was loaded.
        parameter.data = parameter.data.to(saved).to(dtype)
    merged.config.dtype = dtype
    return merged


def merged_dtype(folder: Path) -> str:
    """Type of the weights of a merged model, as :func:`save_adapter` was told."""
    return str(json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))["dtype"])
