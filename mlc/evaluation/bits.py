"""Bits per character: what a model thinks of plain texts, comparable between tokenizers and roughly between scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mlc.models.loading import Policy
from mlc.models.modes import asked_only
from mlc.models.prompts import EncodedPrompt, pad_prompts
from mlc.stopping import ShouldStop, never, stop_if


def bits_per_character(
    policy: Policy, texts: Sequence[str], *, batch_size: int = 16, should_stop: ShouldStop = never
) -> float:
    """Surprise of texts under a model, in bits, over their characters; lower is better.

    Args:
        policy: The model.
        texts: Texts in any language; those of fewer than two tokens are left out.
        batch_size: Texts in a forward pass.
        should_stop: Looked at before each batch.

    Returns:
        Bits per character over all texts together; NaN if no token is predicted.

    Raises:
        Stopped: It was asked to stop.
    """
    found = surprises(policy, texts, batch_size=batch_size, should_stop=should_stop)
    characters = sum(count for _, count in found)
    return sum(bits for bits, _ in found) / characters if characters else math.nan


def surprises(
    policy: Policy, texts: Sequence[str], *, batch_size: int = 16, should_stop: ShouldStop = never
) -> list[tuple[float, int]]:
    """Surprise of each text under a model, in bits, and its characters.

    The texts are read as they are, without a chat template, with the special tokens that the tokenizer itself adds. A
    first token that nothing precedes is not predicted, and its characters do not count.

    Args:
        policy: The model.
        texts: Texts in any language.
        batch_size: Texts in a forward pass.
        should_stop: Looked at before each batch.

    Returns:
        Bits and characters of each text, in order; (0, 0) for one of fewer than two tokens.

    Raises:
        Stopped: It was asked to stop.
    """
    rows = []
    for place, text in enumerate(texts):
        encoded = policy.tokenizer(text, return_offsets_mapping=True)
        ids = tuple(encoded["input_ids"])
        if len(ids) > 1:
            rows.append(_Row(place, ids, 1, len(text) - encoded["offset_mapping"][1][0]))
    return _read(policy, rows, len(texts), batch_size, should_stop)


def surprises_after(
    policy: Policy,
    contexts: Sequence[str],
    texts: Sequence[str],
    *,
    batch_size: int = 16,
    should_stop: ShouldStop = never,
) -> list[tuple[float, int]]:
    """Surprise of each text after another one, in bits, and its characters; the other one's do not count.

    Args:
        policy: The model.
        contexts: What stands before each text.
        texts: Texts, with the space that parts them from what stands before, where there is one.
        batch_size: Texts in a forward pass.
        should_stop: Looked at before each batch.

    Returns:
        Bits and characters of each text, in order; (0, 0) for one that adds no token.

    Raises:
        Stopped: It was asked to stop.
    """
    rows = []
    for place, (context, text) in enumerate(zip(contexts, texts, strict=True)):
        encoded = policy.tokenizer(context + text, return_offsets_mapping=True)
        ids = tuple(encoded["input_ids"])
        # A token that reaches into the text counts; a first one, which nothing precedes, does not.
        ends = [end for _, end in encoded["offset_mapping"]]
        first = max(1, next((number for number, end in enumerate(ends) if end > len(context)), len(ids)))
        if first < len(ids):
            rows.append(_Row(place, ids, first, len(text)))
    return _read(policy, rows, len(texts), batch_size, should_stop)


@dataclass(frozen=True)
class _Row:
    """A text as tokens, of which those from ``first`` on count."""

    place: int
    ids: tuple[int, ...]
    first: int
    characters: int


@torch.no_grad()
def _read(
    policy: Policy, rows: list[_Row], count: int, batch_size: int, should_stop: ShouldStop
) -> list[tuple[float, int]]:
    with asked_only(policy.model):
        return _in_batches(policy, rows, count, batch_size, should_stop)


def _in_batches(
    policy: Policy, rows: list[_Row], count: int, batch_size: int, should_stop: ShouldStop
) -> list[tuple[float, int]]:
    found = [(0.0, 0)] * count
    rows.sort(key=lambda row: len(row.ids))
    for start in range(0, len(rows), batch_size):
        stop_if(should_stop)
        members = rows[start : start + batch_size]
        prompts = [EncodedPrompt(row.ids, (True,) * len(row.ids)) for row in members]
        batch = pad_prompts(prompts, policy.pad_token, side="right").to(policy.model.device)
        logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
        following = batch.input_ids[:, 1:].masked_fill(batch.attention_mask[:, 1:] == 0, -100)
        for number, row in enumerate(members):
            following[number, : row.first - 1] = -100
        nats = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), following, reduction="none").sum(1)
        for row, own in zip(members, nats.tolist(), strict=True):
            found[row.place] = own / math.log(2), row.characters
    return found
