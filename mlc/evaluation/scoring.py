"""Scores of a policy on prompts: refusal margins and prompt states.

N prompts, H hidden size.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlc.models.begun import Begun, begin_encoded
from mlc.models.bounds import layer_index
from mlc.models.continuations import Tokens, answer_tokens, continue_encoded, continue_packed
from mlc.models.loading import Policy
from mlc.models.modes import asked_only
from mlc.models.prefix import split_shared
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
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
    scorer = Scorer(policy, refusal_openings=refusal_openings, compliance_openings=compliance_openings, layer=layer)
    return scorer.score(texts, batch_size=batch_size, on_progress=on_progress, should_stop=should_stop)


class Scorer:
    """Scores prompts as :func:`score_prompts` does, also while they are read to be answered.

    Args:
        policy: As in :func:`score_prompts`, as are the following.
        refusal_openings: At least one.
        compliance_openings: At least one.
        layer: Layer of the states.
        language: Of the prompts, see :func:`mlc.models.prompts.encode_prompt`.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        refusal_openings: Sequence[str],
        compliance_openings: Sequence[str],
        layer: int | float,
        language: str | None = None,
    ) -> None:
        self.policy = policy
        self.language = language
        self.layer = layer
        self.refusals = len(refusal_openings)
        self.openings = [answer_tokens(policy.tokenizer, text) for text in (*refusal_openings, *compliance_openings)]
        self._scores: dict[tuple[int, ...], tuple[float, np.ndarray]] = {}

    def begin(self, prompts: Sequence[EncodedPrompt]) -> Begun:
        """Scores prompts, and gives what an answer goes on from: what engines take to begin with.

        Args:
            prompts: At least one.
        """
        begun = self._read(prompts, keeps=True)
        assert begun is not None
        return begun

    def score(
        self,
        texts: Sequence[Prompt],
        *,
        batch_size: int,
        on_progress: Callable[[int], None] | None = None,
        should_stop: ShouldStop = never,
    ) -> PromptScores:
        """The scores of prompts; those that are known are not computed again.

        Args:
            texts: As in :func:`score_prompts`, as are the following.
            batch_size: Prompts in a forward pass.
            on_progress: Called with the number of prompts just done, first with that of the known ones.
            should_stop: Looked at before each batch.

        Raises:
            Stopped: It was asked to stop.
        """
        encoded = [encode_prompt(self.policy.tokenizer, text, language=self.language) for text in texts]
        distinct = {prompt.input_ids: prompt for prompt in encoded}
        missing = [distinct[tokens] for tokens in sorted(distinct.keys() - self._scores.keys(), key=_by_length)]
        if on_progress and len(missing) < len(encoded):
            on_progress(len(encoded) - len(missing))
        for start in range(0, len(missing), batch_size):
            stop_if(should_stop)
            members = missing[start : start + batch_size]
            with asked_only(self.policy.model):
                self._read(members, keeps=False)
            if on_progress:
                on_progress(len(members))
        margins, states = zip(*(self._scores[prompt.input_ids] for prompt in encoded), strict=True)
        return PromptScores(np.array(margins), np.stack(states))

    @torch.inference_mode()
    def _read(self, prompts: Sequence[EncodedPrompt], *, keeps: bool) -> Begun | None:
        asked = (self.policy, prompts, self.openings, self.layer, keeps)
        read = _score_encoded(*asked) if self.policy.encodes else _score_packed(*asked) or _score_with_cache(*asked)
        scores, states, begun = read
        refusal, compliance = scores[:, : self.refusals], scores[:, self.refusals :]
        margins = (refusal.mean(dim=1) - compliance.mean(dim=1)).double().tolist()
        for prompt, margin, state in zip(prompts, margins, states.float().cpu().numpy(), strict=True):
            self._scores[prompt.input_ids] = margin, state
        return begun


def _by_length(tokens: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    # Those of one length by what they hold, so that batches are the same every time.
    return len(tokens), tokens


_Read = tuple[Tensor, Tensor, Begun | None]
"""Mean log-probability per token of each opening, [n, openings]; the states, [n, H]; and the prompts, if they are
kept."""


def _score_packed(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float, keeps: bool
) -> _Read | None:
    """One forward pass, in which each prompt is followed by all openings; None where rows do not pack."""
    batch = pad_prompts(prompts, policy.pad_token, side="right").to(policy.model.device)
    continuations = [[opening] * len(prompts) for opening in openings]
    said = continue_packed(policy.model, batch, continuations, layer=layer, keeps=keeps)
    if said is None or said.states is None:
        return None
    return said.mean_log_probabilities(), said.states, said.begun


def _score_encoded(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float, keeps: bool
) -> _Read:
    """The same with an encoder, which reads each prompt once; the states are its own."""
    batch = pad_prompts(prompts, policy.pad_token, side="right").to(policy.model.device)
    mask = batch.attention_mask
    read = policy.model.get_encoder()(input_ids=batch.input_ids, attention_mask=mask, output_hidden_states=True)
    hidden = read.hidden_states[layer_index(layer, len(read.hidden_states) - 1)]
    states = hidden[torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1]
    continuations = [[opening] * len(prompts) for opening in openings]
    told = continue_encoded(policy.model, read.last_hidden_state, mask, continuations)
    begun = begin_encoded(policy.model, read.last_hidden_state, mask) if keeps else None
    return told.mean_log_probabilities(), states, begun


def _score_with_cache(
    policy: Policy, prompts: Sequence[EncodedPrompt], openings: Sequence[Tokens], layer: int | float, keeps: bool
) -> _Read:
    """The same from two forward passes, the second one over copies of the first one's keys and values."""
    device = policy.model.device
    padded = pad_prompts(prompts, policy.pad_token, side="left").to(device)
    batch = split_shared(policy.model, padded.input_ids, padded.attention_mask)
    inputs = {**batch.inputs(policy.model), "use_cache": True}
    prefix = policy.model(**inputs, output_hidden_states=True, logits_to_keep=1)
    states = prefix.hidden_states[layer_index(layer, len(prefix.hidden_states) - 1)][:, -1]
    begun = None
    if keeps:
        # The openings are read into the other one.
        kept = copy.deepcopy(prefix.past_key_values)
        begun = Begun(kept, inputs["attention_mask"], inputs["position_ids"][:, -1:], prefix.logits[:, -1])
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
    return mean.reshape(len(prompts), count), states, begun


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
