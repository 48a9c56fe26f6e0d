"""Prompts that a model has read, so that it can answer them without reading them again.

N prompts, T tokens in the longest, V entries of the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.models.loading import Policy
from mlc.models.prefix import SplitBatch, has_window, split_shared
from mlc.models.prompts import EncodedPrompt, pad_prompts


@dataclass(frozen=True)
class Begun:
    """Prompts padded on the left, and what the model keeps of them."""

    cache: Any
    """Keys and values of all tokens, as transformers keeps them; going on changes them."""
    mask: Tensor
    """[N, T], 1 for real tokens."""
    positions: Tensor
    """[N, 1] int64 of the last tokens in their rows."""
    logits: Tensor
    """[N, V] of the token that comes next."""


Begin = Callable[[Sequence[EncodedPrompt]], Begun]
"""Reads at least one prompt."""


@torch.inference_mode()
def begin_prompts(policy: Policy, prompts: Sequence[EncodedPrompt], *, limit: int) -> Begun:
    """Reads prompts; what all of them begin with once.

    Args:
        policy: The model.
        prompts: At least one prompt.
        limit: How many tokens may follow.
    """
    padded = pad_prompts(prompts, policy.pad_token, side="left").to(policy.model.device)
    batch = split_shared(policy.model, padded.input_ids, padded.attention_mask)
    if ends_within(policy.model, prompts, limit):
        batch = SplitBatch(padded.input_ids[0, :0], padded.input_ids, padded.attention_mask)
    inputs = {**batch.inputs(policy.model), "use_cache": True}
    output = policy.model(**inputs, logits_to_keep=1)
    return Begun(output.past_key_values, inputs["attention_mask"], inputs["position_ids"][:, -1:], output.logits[:, -1])


def ends_within(model: Any, prompts: Sequence[EncodedPrompt], limit: int) -> bool:
    """Whether a window of attention may end within an answer, so that nothing may stand between a row's tokens.

    Args:
        model: A decoder, or a whole model.
        prompts: At least one prompt.
        limit: How many tokens may follow.
    """
    return has_window(model, max(len(prompt.input_ids) for prompt in prompts) + limit)
