"""How a model begins its own answers, as tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig

from mlc.models.encoders import decoder_opening, is_encoder_decoder
from mlc.models.modes import asked_only
from mlc.models.prefix import unwrapped
from mlc.models.prompts import PromptBatch

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")
"""What a checkpoint says of generation that every answer needs."""


@torch.no_grad()
def own_answers(model: Any, prompts: PromptBatch, tokens: int, *, sample: bool = False) -> list[tuple[int, ...]]:
    """How a model begins its own answers.

    Args:
        model: The policy.
        prompts: [N, T] padded on either side.
        tokens: Longest answer; it may end before.
        sample: Whether answers are drawn from the model's distribution as it is; else they are greedy.

    Returns:
        N sequences of tokens.
    """
    model = unwrapped(model)
    drawn: dict[str, Any] = {"do_sample": False}
    if sample:
        drawn = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    ids, mask = prompts.input_ids, prompts.attention_mask
    before = ids.shape[1]
    if is_encoder_decoder(model.config):
        before = len(decoder_opening(model))
        # What every answer is made to begin with is generated too, and is no part of it.
        tokens += before - 1
        # The one that generate makes has as many layers as the encoder.
        drawn["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
    else:
        # A decoder goes on after the last column, which must be a token of every prompt.
        order = mask.long().argsort(dim=1, stable=True)
        ids, mask = ids.gather(1, order), mask.gather(1, order)
    with asked_only(model), _generating_plainly(model):
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=tokens,
            pad_token_id=model.generation_config.pad_token_id or 0,
            **drawn,
        )
    begun = output[:, before:]
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    answers = []
    for row in begun.tolist():
        end = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        answers.append(tuple(row[:end]))
    return answers


@contextmanager
def _generating_plainly(model: Any) -> Iterator[None]:
    """A block in which the model generates without what its checkpoint says of penalties and sampling.

    They would change whose answers these are. What is passed to ``generate`` does not do: what that leaves out is taken
    from the checkpoint.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _TOKENS})
    try:
        yield
    finally:
        model.generation_config = own
