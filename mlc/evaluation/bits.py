"""Bits per character: what a model thinks of plain texts, comparable between tokenizers and roughly between scripts."""

import math
from collections.abc import Sequence

import torch

from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt, pad_prompts
from mlc.stopping import ShouldStop, never, stop_if


@torch.no_grad()
def bits_per_character(
    policy: Policy, texts: Sequence[str], *, batch_size: int = 16, should_stop: ShouldStop = never
) -> float:
    """Surprise of texts under a model, in bits, over their characters; lower is better.

    The texts are read as they are, without a chat template, with the special tokens that the tokenizer itself adds. A
    first token that nothing precedes is not predicted, and its characters do not count.

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
    bits, characters = 0.0, 0
    rows = []
    for text in texts:
        encoded = policy.tokenizer(text, return_offsets_mapping=True)
        if len(encoded["input_ids"]) > 1:
            rows.append(EncodedPrompt(tuple(encoded["input_ids"]), (True,) * len(encoded["input_ids"])))
            characters += len(text) - encoded["offset_mapping"][1][0]
    rows.sort(key=lambda row: len(row.input_ids))
    for start in range(0, len(rows), batch_size):
        stop_if(should_stop)
        batch = pad_prompts(rows[start : start + batch_size], policy.pad_token, side="right").to(policy.model.device)
        logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
        following = batch.input_ids[:, 1:].masked_fill(batch.attention_mask[:, 1:] == 0, -100)
        nats = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), following, reduction="sum")
        bits += float(nats) / math.log(2)
    return bits / characters if characters else math.nan
