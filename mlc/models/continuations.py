"""What a model says after each prompt, of several continuations that are given: one pass over all of them.

N prompts, C continuations of each, K tokens in one, V entries of the vocabulary, H hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.models.begun import Begun, as_encoded
from mlc.models.bounds import layer_index
from mlc.models.encoders import decoder_opening, is_encoder_decoder
from mlc.models.packing import FILLER, PackedBatch, head_only_at, pack_rows
from mlc.models.prefix import through_root
from mlc.models.prompts import EncodedPrompt, PromptBatch, pad_prompts, render_messages, render_prompt
from mlc.models.states import known_decoder, pool_mask, pool_states, prompt_states, without_wrappers

Tokens = Sequence[int]
Result = TypeVar("Result")
NOWHERE = -1


@dataclass(frozen=True)
class Continued:
    """What is said about the tokens of continuations."""

    logits: Tensor
    """[M, V] with gradient where gradient is enabled; one row for each place that tells a token."""
    places: tuple[Tensor, ...]
    """For each continuation [N, K] int64: the row of ``logits`` that tells its tokens; :data:`NOWHERE` where a prompt's
    continuation has no more of them."""
    tokens: tuple[Tensor, ...]
    """For each continuation [N, K] int64, its tokens."""
    states: Tensor | None
    """[N, H] states of the prompts, where a layer was named."""
    begun: Begun | None = None
    """The prompts, ready to be answered, where that was asked for."""

    def of(self, continuation: int) -> tuple[Tensor, Tensor]:
        """What is said along one continuation.

        Args:
            continuation: Its number.

        Returns:
            [N, K, V] logits, and [N, K] bool, False where the continuation has no more tokens.
        """
        places = self.places[continuation]
        return self.logits[places.clamp(min=0)], places != NOWHERE

    def mean_log_probabilities(self) -> Tensor:
        """[N, C]: mean log-probability a token of each continuation, in nats; 0 for one without tokens."""
        logits = self.logits.float()
        total = logits.logsumexp(dim=-1)
        scores = []
        for places, tokens in zip(self.places, self.tokens, strict=True):
            there, rows = places != NOWHERE, places.clamp(min=0)
            picked = torch.where(there, logits[rows, tokens] - total[rows], 0.0)
            scores.append(picked.sum(dim=1) / there.sum(dim=1).clamp(min=1))
        return torch.stack(scores, dim=1)


def answer_tokens(tokenizer: Any, text: str, *, chat: bool = True) -> tuple[int, ...]:
    """A text as the tokens that it has at the beginning of an answer.

    Args:
        tokenizer: Fast tokenizer of the model.
        text: The answer, or how it begins.
        chat: Whether it follows a prompt in the chat template; without a template it never does.
    """
    alone = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.chat_template is None or not chat:
        return alone
    # Where some tokenizers begin a text they put a space that is not there in an answer; some templates put one there.
    before = render_prompt(tokenizer, "?")
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]
    lead, found, _ = render_messages(tokenizer, turns).removeprefix(before).partition(text)
    lead = lead if found and not lead.strip() else ""
    asked, whole = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, before + lead + text))
    return tuple(whole[len(asked) :]) if whole[: len(asked)] == asked else alone


def continue_prompts(
    model: Any,
    prompts: PromptBatch,
    continuations: Sequence[Sequence[Tokens]],
    *,
    layer: int | float | None = None,
    pool: Pool = "last",
) -> Continued:
    """What a model says about the tokens of continuations, and the states of the prompts.

    Each prompt is computed once where rows pack (:mod:`mlc.models.packing`), and once a continuation where they do not;
    the result is that of the plain forward pass of each prompt with each continuation alone, gradient included.
    Wrappers and adapters are looked through as :func:`mlc.models.states.prompt_states` does. An encoder-decoder model
    reads the prompt with its encoder, and the continuation with its decoder.

    Args:
        model: A causal language model or an encoder-decoder model of transformers.
        prompts: [N, T] padded on either side.
        continuations: C of them, each with N sequences of tokens; empty ones say nothing.
        layer: Layer of the states, which come from the same pass where rows pack; None = no states.
        pool: Which tokens stand for a prompt.

    Raises:
        ValueError: As in :func:`mlc.models.states.prompt_states`, no continuation has a token, or one has not a
            sequence for each prompt.
    """
    rows = len(prompts.input_ids)
    other = next((len(continuation) for continuation in continuations if len(continuation) != rows), None)
    if other is not None:
        raise ValueError(f"each continuation must hold one sequence for each of the {rows} prompts, not {other}.")
    if not any(tokens for continuation in continuations for tokens in continuation):
        raise ValueError("continuations must hold at least one token.")
    bare = without_wrappers(model)
    # A model without wrappers passes through its own root.
    through = through_root if bare is not model else _directly
    packed = through(model, lambda: continue_packed(bare, prompts, continuations, layer=layer, pool=pool))
    if packed is not None:
        return packed
    logits, places = through(model, lambda: _one_by_one(bare, prompts, continuations))
    states = None
    if layer is not None:
        states = prompt_states(
            model, prompts.input_ids, prompts.attention_mask, layer=layer, pool=pool, content_mask=prompts.content_mask
        )
    device = prompts.input_ids.device
    return Continued(logits, places, tuple(_padded(rows, 0).to(device) for rows in continuations), states)


def continue_packed(
    model: Any,
    prompts: PromptBatch,
    continuations: Sequence[Sequence[Tokens]],
    *,
    layer: int | float | None = None,
    pool: Pool = "last",
    keeps: bool = False,
) -> Continued | None:
    """The same from one forward pass, in which each prompt is followed by all of its continuations.

    Args:
        model: A causal language model, as :func:`mlc.models.states.without_wrappers` gives it.
        prompts: As in :func:`continue_prompts`, as are the following.
        continuations: C of them.
        layer: Layer of the states.
        pool: Which tokens stand for a prompt.
        keeps: Whether keys and values of the prompts are kept, so that they can be answered; without gradient only.

    Returns:
        None where rows do not pack.
    """
    body = known_decoder(model)
    if body is None:
        return None
    device = prompts.input_ids.device
    # Nothing is asked of what follows the last token of a continuation.
    tails = [[list(tokens[:-1]) for tokens in rows] for rows in continuations]
    asked = _rows(prompts)
    whole = [
        EncodedPrompt(
            (*prompt.input_ids, *(token for rows in tails for token in rows[number])),
            (*prompt.content, *(False for rows in tails for _ in rows[number])),
        )
        for number, prompt in enumerate(asked)
    ]
    padded = pad_prompts(whole, 0, side="right").to(device)
    lengths = torch.tensor([len(prompt.input_ids) for prompt in asked])
    branch = torch.zeros(padded.input_ids.shape, dtype=torch.long)
    starts = torch.empty(len(asked), len(tails), dtype=torch.long)
    for row, place in enumerate(lengths.tolist()):
        for number, rows in enumerate(tails):
            starts[row, number] = place
            branch[row, place : place + len(rows[row])] = number + 1
            place += len(rows[row])
    branch = branch.to(device)
    # Content too, because a pooling may ask for it.
    packed = pack_rows(body, padded.input_ids, padded.attention_mask, (branch > 0) | padded.content_mask, branch)
    if packed is None:
        return None
    width = branch.shape[1]
    last = torch.arange(width, device=device) == lengths.to(device).unsqueeze(1) - 1
    telling = packed.take(last | (branch > 0), False)
    inputs = packed.inputs(body)
    if keeps:
        inputs |= {"use_cache": True, "past_key_values": _new_cache()}
    with head_only_at(model, telling):
        output = model(**inputs, output_hidden_states=layer is not None)
    states = None
    if layer is not None:
        hidden = output.hidden_states[layer_index(layer, len(output.hidden_states) - 1)]
        own = (branch == 0) & padded.attention_mask.bool()
        mask = pool_mask(padded.input_ids, own.long(), pool, padded.content_mask)
        states = pool_states(packed.give_back(hidden, branch.shape), mask, pool)
    found = torch.full((len(asked) * width,), NOWHERE, dtype=torch.long, device=device)
    found[packed.source[telling]] = torch.arange(len(output.logits), device=device)
    begins = torch.arange(len(asked)).unsqueeze(1) * width
    places = []
    for number, given in enumerate(continuations):
        # The last token of the prompt tells the first one of a continuation.
        steps = torch.arange(max(map(len, given)))
        along = torch.where(steps == 0, lengths.unsqueeze(1) - 1, starts[:, number : number + 1] + steps - 1)
        there = steps < torch.tensor([len(tokens) for tokens in given]).unsqueeze(1)
        place = torch.where(there, begins + along, 0).to(device)
        places.append(torch.where(there.to(device), found[place], NOWHERE))
    spoken = tuple(_padded(rows, 0).to(device) for rows in continuations)
    begun = None
    if keeps:
        ends = begins.squeeze(1) + lengths - 1
        logits = output.logits[found[ends.to(device)]]
        begun = _begun(output.past_key_values, _places(packed, branch.shape), lengths.to(device), logits)
    return Continued(output.logits, tuple(places), spoken, states, begun)


def _places(packed: PackedBatch, shape: torch.Size) -> Tensor:
    """[N, T] place of each token of a batch that is padded on the right in its packs, flattened."""
    real = packed.source != FILLER
    order = torch.arange(real.numel(), device=real.device).view_as(real)
    places = torch.full((shape.numel(),), NOWHERE, device=real.device)
    places[packed.source[real]] = order[real]
    places = places.view(shape)
    # Shared tokens are those of the first row.
    return torch.where(places == NOWHERE, places[:1], places)


def _begun(cache: Any, places: Tensor, lengths: Tensor, logits: Tensor) -> Begun:
    """Prompts out of packs, without what stands between and after them.

    Args:
        cache: Keys and values of the packs, [G, heads, W, size of a head] in each layer.
        places: [N, T], from :func:`_places`.
        lengths: [N] tokens of the prompts.
        logits: [N, V] of what comes next.
    """
    width = int(lengths.max())
    steps = torch.arange(width, device=lengths.device) - (width - lengths.unsqueeze(1))
    chosen = places.gather(1, steps.clamp(min=0))
    kept = _new_cache()
    for number, layer in enumerate(cache.layers):
        keys, values = (part.transpose(1, 2).flatten(0, 1)[chosen] for part in (layer.keys, layer.values))
        kept.update(keys.transpose(1, 2), values.transpose(1, 2), number)
    return Begun(kept, (steps >= 0).long(), lengths.unsqueeze(1) - 1, logits)


def _new_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def _directly(_model: Any, run: Callable[[], Result]) -> Result:
    return run()


def _rows(prompts: PromptBatch) -> list[EncodedPrompt]:
    """The prompts without their padding."""
    parts = (prompts.input_ids.cpu(), prompts.attention_mask.bool().cpu(), prompts.content_mask.cpu())
    return [
        EncodedPrompt(tuple(ids[real].tolist()), tuple(content[real].tolist()))
        for ids, real, content in zip(*parts, strict=True)
    ]


def _padded(rows: Sequence[Tokens], fill: int) -> Tensor:
    """[N, longest] from sequences of unequal length."""
    parts = [torch.tensor(list(tokens), dtype=torch.long) for tokens in rows]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)


def _one_by_one(
    model: Any, prompts: PromptBatch, continuations: Sequence[Sequence[Tokens]]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same from rows that each hold a prompt and one continuation: logits, and the places in them."""
    device = prompts.input_ids.device
    asked = [prompt.input_ids for prompt in _rows(prompts)]
    pairs = [(row, tokens) for rows in continuations for row, tokens in enumerate(rows)]
    if is_encoder_decoder(model.config):
        states = model.get_encoder()(input_ids=prompts.input_ids, attention_mask=prompts.attention_mask)
        return _decoded(model, states.last_hidden_state, prompts.attention_mask, continuations)
    whole = [EncodedPrompt((*asked[row], *tokens[:-1]), ()) for row, tokens in pairs]
    mask = _padded([[1] * len(prompt.input_ids) for prompt in whole], 0).to(device)
    read = _padded([prompt.input_ids for prompt in whole], 0).to(device)
    output = model(input_ids=read, attention_mask=mask, use_cache=False)
    return _placed(output.logits, [len(asked[row]) for row, _ in pairs], continuations)


def continue_encoded(model: Any, states: Tensor, mask: Tensor, continuations: Sequence[Sequence[Tokens]]) -> Continued:
    """What the decoder of an encoder-decoder says about continuations of prompts that its encoder has read.

    Args:
        model: The model without wrappers.
        states: [N, T, H] of the encoder's last layer.
        mask: [N, T], 1 for real tokens.
        continuations: C of them, each with N sequences of tokens.
    """
    logits, places = _decoded(model, states, mask, continuations)
    return Continued(logits, places, tuple(_padded(rows, 0).to(mask.device) for rows in continuations), None)


def _decoded(
    model: Any, states: Tensor, mask: Tensor, continuations: Sequence[Sequence[Tokens]]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    opening = decoder_opening(model)
    pairs = [(row, tokens) for rows in continuations for row, tokens in enumerate(rows)]
    read = _padded([(*opening, *tokens[:-1]) for _, tokens in pairs], 0).to(states.device)
    given = torch.tensor([row for row, _ in pairs], device=states.device)
    output = model(
        encoder_outputs=as_encoded(states[given]), attention_mask=mask[given], decoder_input_ids=read, use_cache=False
    )
    return _placed(output.logits, [len(opening)] * len(pairs), continuations)


def _placed(
    logits: Tensor, before: Sequence[int], continuations: Sequence[Sequence[Tokens]]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits [rows, W, V] as [M, V], and where in them each continuation is told, which begins after so many tokens."""
    width = logits.shape[1]
    places, number = [], 0
    for rows in continuations:
        longest = max(map(len, rows))
        place = torch.full((len(rows), longest), NOWHERE, dtype=torch.long)
        for row, tokens in enumerate(rows):
            begin = number * width + before[number] - 1
            place[row, : len(tokens)] = torch.arange(begin, begin + len(tokens))
            number += 1
        places.append(place.to(logits.device))
    return logits.flatten(0, 1), tuple(places)
