"""States of prompts at all layers at once.

N prompts, T tokens, D layers, H hidden size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.models.prefix import split_shared
from mlc.models.prompts import PromptBatch
from mlc.models.states import DECODERS, without_wrappers


def pooled_layers(model: Any, batch: PromptBatch, pools: Sequence[Pool], layers: Sequence[int] | None = None) -> Tensor:
    """What :func:`mlc.models.states.prompt_states` gives for layers and poolings, from one forward pass.

    Args:
        model: A causal language model.
        batch: Prompts, padded on the right, each with content where a pooling asks for it.
        pools: Which tokens stand for a prompt.
        layers: Indices of hidden states; all D + 1 if left out.

    Returns:
        [layers, pools, N, H] float32; states that are narrower than others (of OPT's last layer) are filled up with
        zeros, which change no product of two of them.
    """
    body = without_wrappers(model).get_decoder()
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    shared = 0
    if body.config.model_type in DECODERS:
        content = None if set(pools) == {"last"} else batch.content_mask
        split = split_shared(body, batch.input_ids, batch.attention_mask, content)
        inputs, shared = split.inputs(body), split.length
    states = body(**inputs, output_hidden_states=True, return_dict=True).hidden_states
    # No pooling asks for the shared tokens.
    weights = torch.stack([_pool_weights(batch, pool) for pool in pools])[:, :, shared:]
    wanted = states if layers is None else [states[layer] for layer in layers]
    widest = max(hidden.shape[-1] for hidden in states)
    return torch.stack([widened(_pool(hidden, weights), widest) for hidden in wanted])


def widened(states: Tensor, size: int) -> Tensor:
    """[..., size] states, with zeros behind those that are narrower.

    Args:
        states: [..., H].
        size: At least H.
    """
    return torch.nn.functional.pad(states, (0, size - states.shape[-1]))


def _pool_weights(batch: PromptBatch, pool: Pool) -> Tensor:
    """[N, T] share of each token in the state of its prompt."""
    mask = batch.attention_mask.bool() if pool == "last" else batch.content_mask
    if pool != "mean":
        # Nothing follows the last one.
        mask = mask & (mask.long().cumsum(dim=1) == mask.long().sum(dim=1, keepdim=True))
    weights = mask.float()
    return weights / weights.sum(dim=1, keepdim=True)


def _pool(hidden: Tensor, weights: Tensor) -> Tensor:
    # States of padding may be anything, NaN too.
    used = (weights > 0).any(dim=0).unsqueeze(-1)
    return torch.einsum("pnt,nth->pnh", weights, torch.where(used, hidden, 0.0).float())
