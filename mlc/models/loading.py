"""Loading of policy models."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.sources import ModelSource, cache_folder
from mlc.store.drafts import draft_folder

if TYPE_CHECKING:
    import torch


@dataclass
class Policy:
    """A causal language model with its tokenizer."""

    model: Any
    tokenizer: Any
    source: ModelSource

    @property
    def stop_token(self) -> int:
        """Id of the token that ends an answer."""
        configured = self.model.generation_config.eos_token_id
        configured = self.model.config.eos_token_id if configured is None else configured
        return int(configured[0] if isinstance(configured, list) else configured)

    @property
    def pad_token(self) -> int:
        """Id used for padding; its value never reaches a result."""
        for token in (self.tokenizer.pad_token_id, self.model.config.pad_token_id):
            if token is not None:
                return int(token)
        return self.stop_token


def load_policy(
    source: ModelSource, *, dtype: "torch.dtype | Literal['auto'] | None" = None, device: str = "auto"
) -> Policy:
    """Loads a causal language model in evaluation mode.

    Args:
        source: Where it is, from :func:`mlc.models.sources.resolve_model`.
        dtype: Type of the weights in memory; float32 if None, that of the checkpoint if ``auto``.
        device: ``auto``, ``cpu``, ``cuda`` or any device of torch.

    Raises:
        UserError: It cannot be loaded as a causal language model, or the device is not there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = str(_converted_package(source)) if source.kind == "package" else source.target
    options: dict[str, Any] = {"revision": source.revision} if source.kind == "hub" else {"local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype or torch.float32, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The model {source.location!r} cannot be loaded as a causal language model ({reason}): "
            "give a folder or hub id that AutoModelForCausalLM of transformers loads."
        ) from None
    return Policy(model.to(pick_device(device)).eval(), tokenizer, source)


def save_policy(policy: Policy, folder: Path, *, dtype: "torch.dtype") -> None:
    """Writes a checkpoint that ``from_pretrained`` of transformers loads.

    Args:
        policy: Model and tokenizer; left as they are.
        folder: Folder to write into.
        dtype: Type of the saved weights.
    """
    # Tied weights stay one tensor, so that they are written once.
    converted: dict[tuple[Any, ...], torch.Tensor] = {}
    state = {}
    for name, tensor in policy.model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if place not in converted:
            converted[place] = tensor.detach().to("cpu", dtype)
        state[name] = converted[place]
    config = policy.model.config
    previous = config.dtype
    try:
        policy.model.save_pretrained(folder, state_dict=state)
        # The line above names the type of the model in memory.
        config.dtype = dtype
        config.save_pretrained(folder)
    finally:
        config.dtype = previous
    policy.tokenizer.save_pretrained(folder)


def _converted_package(source: ModelSource) -> Path:
    """Converts a GGUF file to an ordinary model folder, once for each content."""
    folder = cache_folder() / f"gguf-{source.identity[:16]}"
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = Path(source.target)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    # Another process may be faster; its result is as good.
    with draft_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return folder
