"""Bits per character: what a model thinks of plain texts, comparable between tokenizers and roughly between scripts."""

import math
from collections.abc import Sequence

import torch

from mlc.models.loading import Policy
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


@torch.no_grad()
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
    found = [(0.0, 0)] * len(texts)
    rows = []
    for place, text in enumerate(texts):
        encoded = policy.tokenizer(text, return_offsets_mapping=True)
        ids = tuple(encoded["input_ids"])
        if len(ids) > 1:
            characters = len(text) - encoded["offset_mapping"][1][0]
            rows.append((place, characters, EncodedPrompt(ids, (True,) * len(ids))))
    rows.sort(key=lambda row: len(row[2].input_ids))
    for start in range(0, len(rows), batch_size):
        stop_if(should_stop)
        members = rows[start : start + batch_size]
        batch = pad_prompts([row for _, _, row in members], policy.pad_token, side="right").to(policy.model.device)
        logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
        following = batch.input_ids[:, 1:].masked_fill(batch.attention_mask[:, 1:] == 0, -100)
        nats = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), following, reduction="none").sum(1)
        for (place, characters, _), own in zip(members, nats.tolist(), strict=True):
            found[place] = own / math.log(2), characters
    return found
