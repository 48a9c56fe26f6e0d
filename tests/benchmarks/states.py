"""Prompt states with the early exit, against the full forward pass with all hidden states."""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.models.bounds import layer_index
from mlc.models.prompts import PromptBatch, pad_prompts
from mlc.models.states import prompt_states
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_prompt

LAYER = 0.5


@dataclass(frozen=True)
class Size:
    """The model, the prompts, and how often they are measured."""

    layers: int
    hidden: int
    vocabulary: int
    prompts: int
    shortest: int
    longest: int
    rounds: int


FULL = Size(layers=8, hidden=256, vocabulary=8_000, prompts=32, shortest=24, longest=64, rounds=11)
QUICK = Size(layers=4, hidden=64, vocabulary=500, prompts=4, shortest=4, longest=8, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Forward alone, then forward and backward."""
    size = QUICK if quick else FULL
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    generator = random.Random(0)
    prompts = [random_prompt(generator, size.shortest, size.longest, size.vocabulary) for _ in range(size.prompts)]
    batch = pad_prompts(prompts, 0)

    def early() -> Tensor:
        return prompt_states(model, batch.input_ids, batch.attention_mask, layer=LAYER)

    def full() -> Tensor:
        return full_pass_states(model, batch, layer_index(LAYER, size.layers))

    with torch.no_grad():
        difference = float((early() - full()).abs().max())
    require_agreement("states", difference, 1e-4)
    facts = {**asdict(size), "layer": LAYER, "largest_difference": difference, "threads": torch.get_num_threads()}
    passes = "forward pass with output_hidden_states / prompt_states at half depth"
    with torch.no_grad():
        own, other = alternate([early, full], rounds=size.rounds)
    yield ratio("states", "speed-up of forward", f"forward: full {passes}", other, own, **facts)
    own, other = alternate([_with_backward(early, model), _with_backward(full, model)], rounds=size.rounds)
    yield ratio("states", "speed-up of forward and backward", f"with backward: full {passes}", other, own, **facts)


def full_pass_states(model: Any, batch: PromptBatch, index: int) -> Tensor:
    """[N, H] states of the last token, of prompts padded on the left, from all layers and the head.

    Args:
        model: Causal language model of transformers.
        batch: N prompts.
        index: Index of the ``hidden_states`` tuple.
    """
    states: Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        output_hidden_states=True,
    ).hidden_states[index][:, -1]
    return states


def _with_backward(states_of: Callable[[], Tensor], model: Any) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        states_of().square().mean().backward()

    return step
