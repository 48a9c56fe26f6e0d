"""Answers from a model in this process."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mlc.evaluation.engines.protocol import Completion, Finish, Messages, Prompt, Rendered
from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_data


class TransformersEngine:
    """Greedy answers in batches of prompts of like length.

    Args:
        policy: The model.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Prompts that are answered together; changes no answer.
    """

    def __init__(self, policy: Policy, *, max_new_tokens: int, batch_size: int = 20) -> None:
        self.policy = policy
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    @property
    def identity(self) -> str:
        return digest_data({"model": self.policy.source.identity, "max_new_tokens": self.max_new_tokens})

    def answer(self, prompts: Sequence[Prompt], *, should_stop: ShouldStop = never) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`."""
        encoded = [_encoded(self.policy.tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda place: (-len(encoded[place].input_ids), place))
        for start in range(0, len(order), self.batch_size):
            members = order[start : start + self.batch_size]
            yield from self._batch(members, [encoded[place] for place in members], should_stop)

    @torch.inference_mode()
    def _batch(
        self, members: Sequence[int], encoded: Sequence[EncodedPrompt], should_stop: ShouldStop
    ) -> list[Completion]:
        policy = self.policy
        batch = pad_prompts(encoded, policy.pad_token, side="left").to(policy.model.device)

        def stops(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            stop_if(should_stop)
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        output = policy.model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=policy.pad_token,
            eos_token_id=list(policy.stop_tokens),
            stopping_criteria=[stops],
        )
        return [
            self._completion(place, prompt, row.tolist())
            for place, prompt, row in zip(members, encoded, output[:, batch.input_ids.shape[1] :], strict=True)
        ]

    def _completion(self, place: int, prompt: EncodedPrompt, row: Sequence[int]) -> Completion:
        ends = self.policy.stop_tokens
        stop = next((step for step, token in enumerate(row) if token in ends), None)
        tokens = list(row) if stop is None else list(row[: stop + 1])
        text = self.policy.tokenizer.decode(tokens, skip_special_tokens=True).removeprefix(self.policy.lead)
        finish: Finish = "length" if stop is None else "stop"
        return Completion(place, text, finish, len(prompt.input_ids), len(tokens))


def _encoded(tokenizer: Any, prompt: Prompt) -> EncodedPrompt:
    if isinstance(prompt, Rendered):
        tokens = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        return EncodedPrompt(tuple(tokens), (False,) * len(tokens))
    asked: str | Messages = prompt
    return encode_prompt(tokenizer, asked)
