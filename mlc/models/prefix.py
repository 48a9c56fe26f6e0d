"""Tokens that every row of a batch begins with, the chat template's, computed once instead of once a row.

A chat template puts the same tokens before every prompt, often more than the prompt itself holds. Their keys and
values are the same in every row, so one row of them serves all. The result is that of the plain computation,
gradient included. Where a decoder takes any attention mask, :mod:`mlc.models.packing` does the same without a cache.

N rows, W tokens in the padded batch, P shared tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

MIN_SHARED = 8
"""Fewer shared tokens are not worth a forward pass of their own."""


@dataclass(frozen=True)
class SplitBatch:
    """A batch without the tokens that its rows share."""

    prefix: Tensor
    """[P] int64."""
    input_ids: Tensor
    """[N, W - P] int64: the columns of the batch from P on."""
    mask: Tensor
    """[N, W - P], 1 for the tokens of a row that follow the shared ones."""

    @property
    def length(self) -> int:
        """P."""
        return len(self.prefix)

    def inputs(self, model: Any) -> dict[str, Any]:
        """Arguments of a forward pass over the rest, with the shared keys and values, one copy a row.

        Args:
            model: The decoder, or the whole model; a forward pass that stops early must raise inside it.
        """
        whole = torch.cat([self.mask.new_ones(len(self.mask), self.length), self.mask], dim=1)
        positions = (whole.long().cumsum(dim=1) - 1).clamp(min=0)
        return {
            "input_ids": self.input_ids,
            "attention_mask": whole,
            "position_ids": positions[:, self.length :],
            "past_key_values": _copies(model, self.prefix, len(self.mask)) if self.length else None,
            "use_cache": self.length > 0,
        }


def unwrapped(model: Any) -> Any:
    """The model inside ``DistributedDataParallel`` and ``torch.compile``, which hide its configuration."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in getattr(model, "_modules", ()):
            model = model._orig_mod
        else:
            return model


Result = TypeVar("Result")


def is_sharded(model: Any) -> bool:
    """Whether each process has a shard of the model only: ``fully_shard`` of torch (FSDP2)."""
    return isinstance(model, FSDPModule)


def through_root(model: Any, run: Callable[[], Result]) -> Result:
    """Runs a part of a model; of a sharded one, inside the forward pass of the whole.

    The hooks of the whole gather weights, and forget what they gathered where a pass ended before its last layer.

    Args:
        model: The whole model, in whatever wrapper.
        run: Computes with a part of it.
    """
    if not is_sharded(model):
        return run()
    own = vars(model).get("forward")
    model.forward = run
    try:
        result: Result = model()
        return result
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own


def split_shared(model: Any, input_ids: Tensor, attention_mask: Tensor, own: Tensor | None = None) -> SplitBatch:
    """Takes the shared tokens off a batch; takes none where that would gain nothing or is not exact.

    Nor does it where layers are sharded: each process has to call them equally often.

    Args:
        model: The decoder that will run, or a wrapper around it.
        input_ids: [N, W] int64, padded on either side.
        attention_mask: [N, W], 1 for real tokens.
        own: [N, W] bool; what comes before the first True of each row may be shared, and the token right before it
            may not. None = everything but the last token of a row may be.
    """
    bare = unwrapped(model)
    inexact = _recomputes(bare) or sees_ahead(bare) or has_window(bare, input_ids.shape[1])
    apart = any(is_sharded(module) for module in bare.modules())
    length = 0 if len(input_ids) < 2 or inexact or apart else shared_length(input_ids, attention_mask, own)
    order = attention_mask.long().cumsum(dim=1)
    start = int(attention_mask[0].long().argmax())
    rest = attention_mask * (order > length)
    return SplitBatch(input_ids[0, start : start + length], input_ids[:, length:], rest[:, length:])


def _recomputes(model: Any) -> bool:
    # Gradient checkpointing drops the cache without a word.
    return bool(getattr(model, "training", False) and getattr(model, "is_gradient_checkpointing", False))


def sees_ahead(model: Any) -> bool:
    """Whether a token sees those after it.

    Args:
        model: A decoder, or a whole model.
    """
    # What follows the shared tokens then changes their keys and values.
    return bool(getattr(getattr(model, "config", None), "use_bidirectional_attention", False))


def has_window(model: Any, width: int) -> bool:
    """Whether attention of the model may not reach over a batch.

    Args:
        model: A decoder, or a whole model.
        width: W.
    """
    # Padding on the left then stands between the shared tokens and the rest, and a window counts it as distance.
    # Twice the width leaves room for what may follow the prompts.
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None else None
    windows = (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return any(window is not None and window < 2 * width for window in windows)


def shared_length(input_ids: Tensor, attention_mask: Tensor, own: Tensor | None) -> int:
    """How many tokens all rows begin with; 0 where they are fewer than :data:`MIN_SHARED`.

    Args:
        input_ids: [N, W] int64, padded on either side.
        attention_mask: [N, W], 1 for real tokens.
        own: As in :func:`split_shared`.
    """
    mask = attention_mask.long()
    free = mask.sum(dim=1) - 1
    if own is not None:
        before = (mask * (own.long().cumsum(dim=1) == 0)).sum(dim=1) - 1
        free = torch.minimum(free, before)
    length = int(free.min())
    if length < MIN_SHARED:
        return 0
    places = mask.argmax(dim=1, keepdim=True) + torch.arange(length, device=input_ids.device)
    tokens = input_ids.gather(1, places)
    equal = (tokens == tokens[:1]).all(dim=0)
    length = int(equal.long().cumprod(dim=0).sum())
    return length if length >= MIN_SHARED else 0


def _copies(model: Any, prefix: Tensor, rows: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    ids = prefix.unsqueeze(0)
    model(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return cache
