"""Attention of one new token a row, without copies of the keys and values that several heads share.

transformers writes keys and values out once a head where there is a mask, which in a batch of answers costs as much as
all else that a token needs. With one token a row, the heads that share keys are queries that see the same: side by side
they are one attention over the keys as they are kept. The result is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mlc.models.states import known_decoder

_NAME = "mlc_grouped"
_PLAIN = "sdpa"


@contextmanager
def grouped_attention(model: Any) -> Iterator[None]:
    """Lets a model attend so inside the block, where it is a decoder of a known family that uses ``sdpa``.

    Args:
        model: A model of transformers; passes over several tokens a row are as ever.
    """
    body = known_decoder(model)
    config = None if body is None else body.config.get_text_config()
    if config is None or config._attn_implementation != _PLAIN:
        yield
        return
    _register()
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = _PLAIN


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS[_PLAIN])


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers calls attention: queries [N, heads, tokens, D], keys and values [N, key heads, T, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, tokens, size = query.shape
    if tokens > 1 or heads == key.shape[1] or options.get("position_bias") is not None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended
    output = torch.nn.functional.scaled_dot_product_attention(
        # A head reads the keys of its number divided by the size of a group.
        query.view(rows, key.shape[1], -1, size),
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=options.get("dropout", 0.0),
        scale=options.get("scaling"),
    )
    return output.reshape(rows, 1, heads, -1), None
