"""Answers from a model in this process."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.evaluation.engines.protocol import Completion, Finish, Prompt, Rendered
from mlc.models.begun import Begin, Begun, as_encoded, begin_prompts, ends_within
from mlc.models.encoders import language_token
from mlc.models.grouped import grouped_attention
from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt, encode_prompt
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_data


class TransformersEngine:
    """Greedy answers: at each step the likeliest token, whatever else the checkpoint's generation settings ask for.

    Prompts of like length are answered together, the longest first. What all of them begin with is computed once, keys
    and values are kept, and an answer that has ended leaves its batch, so that a long one does not hold the others. An
    answer is that of its prompt alone, up to the rounding of sums.

    Args:
        policy: The model.
        max_new_tokens: Longest answer, in tokens.
        batch_size: Prompts that are answered together.
        begin: Reads prompts for something else that is asked of them too, as
            :meth:`mlc.evaluation.scoring.Scorer.begin` does; where a window of attention may end within an answer it is
            not called. None = they are read for their answers alone.
        language: Of the prompts, see :func:`mlc.models.prompts.encode_prompt`.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_new_tokens: int,
        batch_size: int = 20,
        begin: Begin | None = None,
        language: str | None = None,
    ) -> None:
        self.policy = policy
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self._begin = begin
        self._language = language

    @property
    def identity(self) -> str:
        facts: dict[str, Any] = {"model": self.policy.source.identity, "max_new_tokens": self.max_new_tokens}
        token = language_token(self.policy.tokenizer, self._language)
        return digest_data(facts if token is None else {**facts, "language": token})

    def in_language(self, language: str) -> "TransformersEngine":
        """See :func:`mlc.evaluation.engines.protocol.in_language`."""
        return TransformersEngine(
            self.policy,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            begin=self._begin,
            language=language,
        )

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`."""
        encoded = [encode(self.policy.tokenizer, prompt, self._language) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda place: (-len(encoded[place].input_ids), place))
        for start in range(0, len(order), self.batch_size):
            stop_if(should_stop)
            # The same batches whatever is known, so that what else is read from them is the same to the last bit.
            members = order[start : start + self.batch_size]
            wanted = [row for row, place in enumerate(members) if place not in answered]
            begun = self._begun([encoded[place] for place in members], bool(wanted))
            if begun is None:
                continue
            batch = _Decoding(self.policy, begun, wanted, self.max_new_tokens)
            while batch.rows:
                for row, tokens, finish in batch.take_finished():
                    place = members[row]
                    text = self.policy.tokenizer.decode(tokens, skip_special_tokens=True)
                    text = text.removeprefix(self.policy.lead)
                    yield Completion(place, text, finish, len(encoded[place].input_ids), len(tokens))
                stop_if(should_stop)
                batch.step()

    def _begun(self, prompts: Sequence[EncodedPrompt], wanted: bool) -> Begun | None:
        """The prompts, read; None where nothing wants them to be."""
        if self._begin is not None and not ends_within(self.policy.model, prompts, self.max_new_tokens):
            begun = self._begin(prompts)
            return begun if wanted else None
        return begin_prompts(self.policy, prompts, limit=self.max_new_tokens) if wanted else None


@dataclass
class _Row:
    """One answer on its way."""

    number: int
    """Place of its prompt in the batch, as the batch began."""
    tokens: list[int]


class _Decoding:
    """A batch of answers, of which the unfinished ones go on together; N of them.

    Args:
        policy: The model.
        begun: The prompts.
        wanted: Places of those that are to be answered, at least one.
        limit: Longest answer, in tokens.
    """

    def __init__(self, policy: Policy, begun: Begun, wanted: Sequence[int], limit: int) -> None:
        self.policy = policy
        self.ends = frozenset(policy.stop_tokens)
        self.limit = limit
        self.rows = [_Row(number, []) for number in wanted]
        if len(wanted) < len(begun.mask):
            begun = begun.at(wanted)
        # The last token of an answer is not read.
        begun.make_room(limit - 1)
        self.cache, self.mask, self.positions, self.states = begun.cache, begun.mask, begun.positions, begun.states
        self._take(begun.logits)

    def take_finished(self) -> list[tuple[int, list[int], Finish]]:
        """Takes the answers out that have ended: place in the batch, tokens, and why."""
        finished: list[tuple[int, list[int], Finish]] = []
        kept = []
        for place, row in enumerate(self.rows):
            if row.tokens[-1] in self.ends:
                finished.append((row.number, row.tokens, "stop"))
            elif len(row.tokens) == self.limit:
                finished.append((row.number, row.tokens, "length"))
            else:
                kept.append(place)
        if finished and kept:
            places = torch.tensor(kept, device=self.mask.device)
            with torch.inference_mode():
                self.mask, self.positions = self.mask[places], self.positions[places]
                self.states = None if self.states is None else self.states[places]
                self.cache.batch_select_indices(places)
        self.rows = [self.rows[place] for place in kept]
        return finished

    @torch.inference_mode()
    def step(self) -> None:
        """Adds a token to each answer that is left."""
        if not self.rows:
            return
        last = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self.mask.device)
        with grouped_attention(self.policy.model):
            output = self.policy.model(**self._inputs(last), past_key_values=self.cache, use_cache=True)
        self.cache = output.past_key_values
        self._take(output.logits[:, -1])

    def _inputs(self, last: Tensor) -> dict[str, Any]:
        if self.states is not None:
            # A decoder counts the places of its tokens itself, and the mask is about the prompt.
            encoded = {"encoder_outputs": as_encoded(self.states), "attention_mask": self.mask}
            return {"decoder_input_ids": last, **encoded}
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self.positions = self.positions + 1
        return {"input_ids": last, "attention_mask": self.mask, "position_ids": self.positions}

    def _take(self, logits: Tensor) -> None:
        for row, token in zip(self.rows, logits.argmax(dim=-1).tolist(), strict=True):
            row.tokens.append(token)


def encode(tokenizer: Any, prompt: Prompt, language: str | None = None) -> EncodedPrompt:
    """A prompt in a language as tokens; one that is rendered gets neither a chat template nor a language."""
    if isinstance(prompt, Rendered):
        tokens = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        return EncodedPrompt(tuple(tokens), (False,) * len(tokens))
    return encode_prompt(tokenizer, prompt, language=language)
