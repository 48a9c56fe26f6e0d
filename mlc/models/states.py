"""The representation of a prompt at one layer, without computing the layers above it."""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mlc.models.prefix import SplitBatch, split_shared

Pool = Literal["last", "last_content", "mean"]


class _LayerReached(Exception):
    """Carries the state out of the forward pass at the chosen layer."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__("the chosen layer was reached")
        self.hidden = hidden


def layer_index(layer: int | float, depth: int) -> int:
    """Turns a layer as people write it into an index of Hugging Face's ``hidden_states`` tuple.

    Args:
        layer: Index (0 = embeddings, ``depth`` = after the last layer and the final norm; negative counts from
            the end), or a fraction of the depth as a float in [0, 1].
        depth: Number of layers.

    Raises:
        ValueError: The layer does not exist.
    """
    if isinstance(layer, float):
        if not 0.0 <= layer <= 1.0:
            raise ValueError(f"layer as a fraction must lie in [0, 1], not {layer}.")
        return round(layer * depth)
    index = layer if layer >= 0 else depth + 1 + layer
    if not 0 <= index <= depth:
        raise ValueError(f"layer {layer} does not exist: this model has layers 0 to {depth}.")
    return index


def prompt_states(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    layer: int | float,
    pool: Pool = "last",
    content_mask: Tensor | None = None,
) -> Tensor:
    """Hidden state of each prompt at one layer; the forward pass stops there.

    N prompts, T tokens, H hidden size. Equal to ``hidden_states[layer]`` of the full forward pass, pooled.

    Args:
        model: A causal language model of transformers.
        input_ids: [N, T] int64.
        attention_mask: [N, T], 1 for real tokens; padding on either side.
        layer: Index of the ``hidden_states`` tuple, or a fraction of the depth such as 0.5.
        pool: ``last``: the last prompt token (Bu et al., arXiv 2602.16660); ``last_content``: the last token of the
            person's own text; ``mean``: the mean over the tokens of that text. The last two are ours.
        content_mask: [N, T] bool, needed for ``last_content`` and ``mean``.

    Returns:
        [N, H] states, with gradient where gradient is enabled.

    Raises:
        ValueError: A shape is wrong, the layer does not exist, or a prompt has no token to pool.
    """
    if input_ids.shape != attention_mask.shape or input_ids.ndim != 2:
        raise ValueError(
            f"input_ids and attention_mask must both be [N, T], not {list(input_ids.shape)} and "
            f"{list(attention_mask.shape)}."
        )
    mask = _pool_mask(attention_mask, pool, content_mask)
    hidden, shared = _states_at(model, input_ids, attention_mask, None if pool == "last" else mask, layer)
    return _pooled(hidden, mask[:, shared:], pool)


def _pool_mask(attention_mask: Tensor, pool: Pool, content_mask: Tensor | None) -> Tensor:
    if pool == "last":
        mask = attention_mask.bool()
    elif content_mask is None:
        raise ValueError(f"pool={pool!r} needs content_mask.")
    elif content_mask.shape != attention_mask.shape:
        raise ValueError(f"content_mask must be {list(attention_mask.shape)}, not {list(content_mask.shape)}.")
    else:
        mask = content_mask.bool() & attention_mask.bool()
    if not bool(mask.any(dim=1).all()):
        raise ValueError(f"pool={pool!r}: a prompt has no token to pool.")
    return mask


def _pooled(hidden: Tensor, mask: Tensor, pool: Pool) -> Tensor:
    if pool == "mean":
        weights = mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, -1).amax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def _states_at(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, own: Tensor | None, layer: int | float
) -> tuple[Tensor, int]:
    """[N, W - P, H] states, and P: the columns before P hold shared tokens, which no pooling asks for."""
    body, layers = _decoder(model)
    if layers is None:
        warnings.warn(
            f"{type(model).__name__}: its layers are not known, so the whole forward pass is computed.", stacklevel=3
        )
        positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
        whole = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions}
        states = model(**whole, use_cache=False, output_hidden_states=True).hidden_states
        return states[layer_index(layer, len(states) - 1)], 0
    index = layer_index(layer, len(layers))
    batch = split_shared(body, input_ids, attention_mask, own)
    if index == len(layers):
        return body(**batch.inputs(body)).last_hidden_state, batch.length
    hidden = _stopped(body, layers[index], batch)
    return hidden, batch.length


def _stopped(body: Any, layer: nn.Module, batch: SplitBatch) -> Tensor:
    def stopping(**inputs: Any) -> Tensor:
        try:
            body(**inputs)
        except _LayerReached as reached:
            return reached.hidden
        raise AssertionError("the chosen layer was never called")

    handle = layer.register_forward_pre_hook(_stop_here, with_kwargs=True)
    try:
        return stopping(**batch.inputs(stopping))
    finally:
        handle.remove()


def _stop_here(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _LayerReached(args[0] if args else kwargs["hidden_states"])


def _decoder(model: Any) -> tuple[nn.Module, nn.ModuleList | None]:
    body = model.get_decoder() if hasattr(model, "get_decoder") else getattr(model, "base_model", model)
    layers = getattr(body, "layers", None)
    return body, layers if isinstance(layers, nn.ModuleList) else None


def depth_of(model: nn.Module) -> int:
    """Number of layers of a causal language model."""
    config: Any = model.config
    return int(config.get_text_config().num_hidden_layers)
