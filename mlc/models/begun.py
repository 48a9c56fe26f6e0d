"""Prompts that a model has read, so that it can answer them without reading them again.

N prompts, T tokens in the longest, V entries of the vocabulary, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from mlc.models.encoders import decoder_opening
from mlc.models.loading import Policy
from mlc.models.prefix import SplitBatch, has_window, split_shared
from mlc.models.prompts import EncodedPrompt, pad_prompts


@dataclass(frozen=True)
class Begun:
    """Prompts and what the model keeps of them; padded on the left, those of an encoder on either side."""

    cache: Any
    """Keys and values of all tokens, as transformers keeps them; going on changes them."""
    mask: Tensor
    """[N, T], 1 for real tokens."""
    positions: Tensor
    """[N, 1] int64 of the last tokens in their rows."""
    logits: Tensor
    """[N, V] of the token that comes next."""
    states: Tensor | None = None
    """[N, T, H] of the last layer of an encoder; the cache is then that of the decoder. None without an encoder."""

    @torch.inference_mode()
    def at(self, rows: Sequence[int]) -> "Begun":
        """Some of the prompts; the cache is theirs from then on."""
        places = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(places)
        states = None if self.states is None else self.states[places]
        return Begun(self.cache, self.mask[places], self.positions[places], self.logits[places], states)

    def make_room(self, tokens: int) -> None:
        """Lets keys and values of tokens to come be written behind those that are there, which are then not copied.

        Args:
            tokens: How many will follow in each row.
        """
        if self.states is not None:
            return
        layers = getattr(self.cache, "layers", [])
        if all(type(layer) is DynamicLayer for layer in layers):
            self.cache.layers = [_Roomy(layer, tokens) for layer in layers]


class _Roomy(DynamicLayer):  # type: ignore[misc]
    """Keys and values at the beginning of tensors with room for more."""

    def __init__(self, layer: DynamicLayer, tokens: int) -> None:
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self._whole = [
            torch.cat([part, part.new_empty(*part.shape[:2], tokens, part.shape[3])], dim=2)
            for part in (layer.keys, layer.values)
        ]
        self._show(layer.get_seq_length())

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """See ``DynamicLayer``."""
        begin = self.get_seq_length()
        end = begin + key_states.shape[2]
        for whole, states in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, begin:end] = states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """See ``DynamicLayer``."""
        length = self.get_seq_length()
        self._whole = [whole[indices] for whole in self._whole]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (whole[:, :, :length] for whole in self._whole)


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
    if policy.encodes:
        batch = pad_prompts(prompts, policy.pad_token, side="right").to(policy.model.device)
        read = policy.model.get_encoder()(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        return begin_encoded(policy.model, read.last_hidden_state, batch.attention_mask)
    padded = pad_prompts(prompts, policy.pad_token, side="left").to(policy.model.device)
    split = split_shared(policy.model, padded.input_ids, padded.attention_mask)
    if ends_within(policy.model, prompts, limit):
        split = SplitBatch(padded.input_ids[0, :0], padded.input_ids, padded.attention_mask)
    inputs = {**split.inputs(policy.model), "use_cache": True}
    output = policy.model(**inputs, logits_to_keep=1)
    return Begun(output.past_key_values, inputs["attention_mask"], inputs["position_ids"][:, -1:], output.logits[:, -1])


@torch.inference_mode()
def begin_encoded(model: Any, states: Tensor, mask: Tensor) -> Begun:
    """Opens the answers to prompts that the encoder of a model has read.

    Args:
        model: An encoder-decoder.
        states: [N, T, H] of the encoder's last layer.
        mask: [N, T], 1 for real tokens.
    """
    opening = torch.tensor([decoder_opening(model)] * len(mask), device=mask.device)
    output = model(encoder_outputs=as_encoded(states), attention_mask=mask, decoder_input_ids=opening, use_cache=True)
    last = torch.full((len(mask), 1), opening.shape[1] - 1, device=mask.device)
    return Begun(output.past_key_values, mask, last, output.logits[:, -1], states)


def as_encoded(states: Tensor) -> Any:
    """States of an encoder's last layer as models of transformers take them."""
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)


def ends_within(model: Any, prompts: Sequence[EncodedPrompt], limit: int) -> bool:
    """Whether a window of attention may end within an answer, so that nothing may stand between a row's tokens.

    Args:
        model: A decoder, or a whole model.
        prompts: At least one prompt.
        limit: How many tokens may follow.
    """
    return has_window(model, max(len(prompt.input_ids) for prompt in prompts) + limit)
