"""Scores of a policy on prompts: refusal margins and prompt states.

N prompts, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlc.models.continuations import Tokens, answer_tokens, continue_packed
from mlc.models.loading import Policy
from mlc.models.prefix import split_shared
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.states import layer_index
from mlc.shapes.history import Prompt
from mlc.stopping import ShouldStop, never, stop_if


@dataclass(frozen=True)
class PromptScores:
    """Scores of N prompts, in their order."""

    margins: np.ndarray
    """[N] float64: mean log-probability per token of the refusal openings minus that of the compliance openings,
    in nats. Higher = more inclined to refuse."""
    states: np.ndarray
    """[N, H] float32: state of the last prompt token at the chosen layer."""


@torch.inference_mode()
def score_prompts(
    policy: Policy,
    texts: Sequence[Prompt],
    *,
    refusal_openings: Sequence[str],
    compliance_openings: Sequence[str],
    layer: int | float,
    batch_size: int,
    on_progress: Callable[[int], None] | None = None,
    should_stop: ShouldStop = never,
) -> PromptScores:
    """Computes the refusal margin and the state of each prompt.

    The margin needs no generation and no judge, and is the same question in every language: how much likelier does
    the model open with a refusal than with an answer? The openings are English, because alignment teaches English
    answers; a model that refuses in another language only is not credited.

    Args:
        policy: The model.
        texts: Prompts without template: texts, or messages that end with one of the person.
        refusal_openings: At least one opening of a refusal.
        compliance_openings: At least one opening of an answer.
        layer: Layer of the states, see :func:`mlc.models.states.prompt_states`.
        batch_size: Prompts in a forward pass.
        on_progress: Called with the number of prompts just done.
        should_stop: Looked at before each batch.

    Raises:
        Stopped: It was asked to stop.
    """
    openings = [answer_tokens(policy.tokenizer, text) for text in (*refusal_openings, *compliance_openings)]
    encoded = [encode_prompt(policy.tokenizer, text) for text in texts]
    order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index].input_ids), index))
    margins = np.empty(len(encoded))
    states: list[np.ndarray | None] = [None] * len(encoded)
    for start in range(0, len(order), batch_size):
        stop_if(should_stop)
        members = order[start : start + batch_size]
        scores, hidden = _score_batch(policy, [encoded[index] for index in members], openings, layer)
        refusal, compliance = scores[:, : len(refusal_openings)], scores[:, len(refusal_openings) :]
        margins[members] = (refusal.mean(dim=1) - compliance.mean(dim=1)).double().cpu().numpy()
        for index, state in zip(members, hidden.float().cpu().numpy(), strict=True):
            states[index] = state
        if on_progress:
            on_progress(len(members))
    return PromptScores(margins, np.stack([state for state in states if state is not None]))


def _score_batch(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float
) -> tuple[Tensor, Tensor]:
    """Mean log-probability per token of each opening, [n, openings], and the states, [n, H]."""
    packed = _score_packed(policy, prompts, openings, layer)
    return _score_with_cache(policy, prompts, openings, layer) if packed is None else packed


def _score_packed(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float
) -> tuple[Tensor, Tensor] | None:
    """The same from one forward pass, in which each prompt is followed by all openings; None where rows do not pack."""
    batch = pad_prompts(prompts, policy.pad_token, side="right").to(policy.model.device)
    said = continue_packed(policy.model, batch, [[opening] * len(prompts) for opening in openings], layer=layer)
    if said is None or said.states is None:
        return None
    return said.mean_log_probabilities(), said.states


def _score_with_cache(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float
) -> tuple[Tensor, Tensor]:
    """The same from two forward passes, the second one over copies of the first one's keys and values."""
    device = policy.model.device
    padded = pad_prompts(prompts, policy.pad_token, side="left").to(device)
    batch = split_shared(policy.model, padded.input_ids, padded.attention_mask)
    inputs = {**batch.inputs(policy.model), "use_cache": True}
    prefix = policy.model(**inputs, output_hidden_states=True, logits_to_keep=1)
    states = prefix.hidden_states[layer_index(layer, len(prefix.hidden_states) - 1)][:, -1]
    count, width = len(openings), max(len(opening) for opening in openings)
    target = torch.full((count, width), -100, device=device)
    for row, opening in enumerate(openings):
        target[row, : len(opening)] = torch.tensor(opening, device=device)
    target = target.repeat(len(prompts), 1)
    logits = prefix.logits.repeat_interleave(count, dim=0)
    if width > 1:
        logits = torch.cat([logits, _continue(policy, inputs, prefix.past_key_values, target)], dim=1)
    scored = target != -100
    picked = torch.log_softmax(logits.float(), dim=-1).gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    mean = torch.where(scored, picked, 0.0).sum(dim=1) / scored.sum(dim=1)
    return mean.reshape(len(prompts), count), states


def _continue(policy: Policy, inputs: dict[str, Any], cache: Any, target: Tensor) -> Tensor:
    """Logits after each opening token but the last, [n · openings, width − 1, vocabulary]."""
    count = len(target) // len(inputs["input_ids"])
    cache.batch_repeat_interleave(count)
    given = target[:, :-1]
    whole = torch.cat([inputs["attention_mask"].repeat_interleave(count, dim=0), (given != -100).long()], dim=1)
    last = inputs["position_ids"][:, -1:].repeat_interleave(count, dim=0)
    following = last + 1 + torch.arange(given.shape[1], device=given.device)
    logits: Tensor = policy.model(
        input_ids=given.clamp(min=0),
        attention_mask=whole,
        position_ids=following,
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits
