"""States of prompts for a gate.

N prompts in the anchor language, M of their translations into another one, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.gating.settings import PromptGateSettings
from mlc.models.bounds import layer_index
from mlc.models.layers import pooled_layers, widened
from mlc.models.loading import Policy
from mlc.models.modes import asked_only
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.states import prompt_states
from mlc.models.together import READ_TOGETHER
from mlc.shapes.history import Prompt
from mlc.stopping import ShouldStop, never, stop_if

Place = tuple[int, Pool]
"""Where a prompt is read: the index of the hidden state, and which tokens stand for the prompt."""
SHARES = tuple(eighth / 8 for eighth in (8, 7, 6, 5, 4, 3, 2))
"""Depths that are tried where the layer is to be found; below, states tell languages apart before anything else."""


@dataclass(frozen=True)
class Read:
    """States of prompts in one language."""

    rows_M: Tensor
    """int64: which of the N prompts each one is."""
    states_MH: Tensor

    def among(self, shown: Sequence[int]) -> "Read":
        """The same, if only these of the N prompts are counted, in this order; all of its own are among them."""
        return Read(torch.searchsorted(torch.tensor(shown), self.rows_M), self.states_MH)


def joined(parts: Sequence[Read]) -> Read:
    """Different prompts in one language, in the order of the N prompts.

    Args:
        parts: At least one.
    """
    rows = torch.cat([part.rows_M for part in parts])
    order = rows.argsort()
    return Read(rows[order], torch.cat([part.states_MH for part in parts])[order])


def places_of(policy: Policy, settings: PromptGateSettings) -> list[Place]:
    """Where a gate may read: one place, or the candidates, the last layer first.

    Args:
        policy: The model.
        settings: The gate.

    Raises:
        UserError: The layer does not exist.
    """
    depth = policy.model.config.get_text_config().num_hidden_layers
    try:
        layers = (
            [layer_index(share, depth) for share in SHARES]
            if settings.layer == "auto"
            else [layer_index(settings.layer, depth)]
        )
    except ValueError as problem:
        raise UserError(f"The gate cannot be fitted: {problem} Change serve.layer.") from None
    pools: Sequence[Pool] = get_args(Pool) if settings.pool == "auto" else (settings.pool,)
    # A small model has fewer layers than there are shares.
    return [(layer, pool) for layer in dict.fromkeys(layers) if layer or len(layers) == 1 for pool in pools]


@torch.no_grad()
def states_at(
    policy: Policy,
    prompts: Sequence[Prompt],
    places: Sequence[Place],
    *,
    on_prompts: Callable[[int], None] = lambda count: None,
    should_stop: ShouldStop = never,
) -> dict[Place, Tensor]:
    """[N, H] states of prompts by place, on the CPU; a prompt is read once for all of them.

    Args:
        policy: A decoder.
        prompts: At least one.
        places: At least one; nothing is computed beyond the layer of a single one.
        on_prompts: Called with the number of prompts just read.
        should_stop: Looked at before each batch.

    Raises:
        Stopped: It was asked to stop.
    """
    encoded = [_with_content(encode_prompt(policy.tokenizer, asked)) for asked in prompts]
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].input_ids))
    found: dict[Place, list[Tensor]] = {place: [] for place in places}
    with asked_only(policy.model):
        for start in range(0, len(order), READ_TOGETHER):
            stop_if(should_stop)
            rows = order[start : start + READ_TOGETHER]
            for place, states in _read(policy, [encoded[row] for row in rows], places).items():
                found[place].append(states.cpu())
            on_prompts(len(rows))
    back = torch.tensor(order).argsort()
    return {place: torch.cat(parts)[back] for place, parts in found.items()}


def _read(policy: Policy, encoded: Sequence[EncodedPrompt], places: Sequence[Place]) -> dict[Place, Tensor]:
    """One batch."""
    batch = pad_prompts(encoded, policy.pad_token, side="right").to(policy.model.device)
    if len(places) == 1:
        ((layer, pool),) = places
        given: dict[str, Any] = {"layer": layer, "pool": pool, "content_mask": batch.content_mask}
        states = prompt_states(policy.model, batch.input_ids, batch.attention_mask, **given)
        return {places[0]: widened(states, policy.model.config.get_text_config().hidden_size)}
    layers, pools = (list(dict.fromkeys(one)) for one in zip(*places, strict=True))
    states = pooled_layers(policy.model, batch, pools, layers)
    return {(layer, pool): states[layers.index(layer), pools.index(pool)] for layer, pool in places}


def _with_content(prompt: EncodedPrompt) -> EncodedPrompt:
    """A prompt of which at least the last token counts as the person's own text."""
    if any(prompt.content):
        return prompt
    return replace(prompt, content=(*prompt.content[:-1], True))
