"""The rows of a batch behind one copy of the tokens that all of them begin with, and no padding between them.

A chat template puts the same tokens before every prompt, and rows of unequal length leave much of a padded batch
empty. Here rows stand one behind the other, and an attention mask lets each of them see the shared tokens and itself
only. It is one forward pass without a cache, so that gradients, checkpointed activations and wrapped models are the
ordinary ones. The result is that of the padded batch.

N rows, T tokens in the padded batch, G packs, W tokens in a pack.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlc.models.prefix import has_window, sees_ahead, shared_length

FILLER = -1
MAX_WIDTH = 4096
"""Packs of several rows are no longer than this, because the mask holds a number for each pair of tokens."""


@dataclass(frozen=True)
class PackedBatch:
    """A batch as packs."""

    input_ids: Tensor
    """[G, W] int64."""
    position_ids: Tensor
    """[G, W] int64, the place of each token in its own row."""
    visible: Tensor
    """[G, 1, W, W] bool: which token sees which."""
    source: Tensor
    """[G, W] int64: where each token stood in the padded batch, flattened; :data:`FILLER` where a pack is filled up.
    Shared tokens are those of the first row."""

    def inputs(self, body: Any) -> dict[str, Any]:
        """Arguments of a forward pass.

        Args:
            body: The decoder that will run.
        """
        mask = self.visible
        if _attention(body) == "eager":
            # There the mask is added to the scores.
            dtype = next(body.parameters()).dtype
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
        return {
            "input_ids": self.input_ids,
            "attention_mask": mask,
            "position_ids": self.position_ids,
            "use_cache": False,
        }

    def take(self, values: Tensor, fill: int) -> Tensor:
        """Values of the padded batch, [N, T], in the order of the packs, [G, W].

        Args:
            values: A number for each token.
            fill: The number where a pack is filled up.
        """
        return values.flatten()[self.source.clamp(min=0)].masked_fill(self.source == FILLER, fill)

    def give_back(self, states: Tensor, shape: torch.Size) -> Tensor:
        """States of the packs, [G, W, H], in the order of the padded batch, [N, T, H].

        Zero where a token is padding, and where it is shared and not of the first row.

        Args:
            states: A vector for each token of the packs.
            shape: [N, T].
        """
        there = self.source != FILLER
        padded = states.new_zeros(shape.numel(), states.shape[-1])
        return padded.index_copy(0, self.source[there], states[there]).view(*shape, -1)


def can_pack(body: Any, width: int) -> bool:
    """Whether packs give what the padded batch gives: a decoder that takes any mask and draws no random numbers.

    Args:
        body: One of the decoders of :data:`mlc.models.states.DECODERS`.
        width: T.
    """
    return (
        _attention(body) in ("eager", "sdpa")
        and not sees_ahead(body)
        and not has_window(body, width)
        # The shared tokens would have the same noise in every row.
        and not (body.training and _drops_out(body))
    )


def pack_rows(
    body: Any, input_ids: Tensor, attention_mask: Tensor, own: Tensor | None = None, branch: Tensor | None = None
) -> PackedBatch | None:
    """Lays the rows of a padded batch one behind the other.

    Args:
        body: The decoder that will run, as in :func:`can_pack`.
        input_ids: [N, T] int64, padded on either side.
        attention_mask: [N, T], 1 for real tokens.
        own: [N, T] bool; what comes before the first True of each row may be shared, and the token right before it
            may not. None = everything but the last token of a row may be.
        branch: [N, T] int64, for rows that end in several continuations which do not see one another: 0 for the row
            itself, which comes first, then the number of the continuation. None = 0 everywhere.

    Returns:
        None where the decoder does not compute the same for packs, see :func:`can_pack`.
    """
    if not can_pack(body, input_ids.shape[1]):
        return None
    shared = shared_length(input_ids, attention_mask, own) if len(input_ids) > 1 else 0
    real = attention_mask.bool().cpu()
    branch = torch.zeros_like(real, dtype=torch.long) if branch is None else branch.cpu()
    rows = [places[kept] for places, kept in zip(torch.arange(real.numel()).view_as(real), real, strict=True)]
    packs = _groups([len(row) - shared for row in rows], shared, body.config.get_text_config().hidden_size)
    source = _filled([torch.cat([rows[0][:shared], *(rows[row][shared:] for row in pack)]) for pack in packs])
    there = source.clamp(min=0)
    # 0 owns what all rows share, so that a row's number begins at 1.
    owner = torch.where(source == FILLER, FILLER, there // real.shape[1] + 1)
    owner[:, :shared] = 0
    device = input_ids.device
    return PackedBatch(
        input_ids.flatten()[there.to(device)],
        _positions(real, branch).flatten()[there].to(device),
        _visible(owner, branch.flatten()[there]).to(device),
        source.to(device),
    )


@contextmanager
def head_only_at(model: Any, places: Tensor) -> Iterator[None]:
    """Runs the head of a model at some places only, so that its logits are [places, vocabulary].

    Args:
        model: A causal language model without wrappers.
        places: [G, W] bool.
    """

    def choose(_head: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][places], *given[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def _positions(real: Tensor, branch: Tensor) -> Tensor:
    """[N, T] the place of each token in its row; every continuation goes on where the row itself ends."""
    order = real.long().cumsum(dim=1) - 1
    stem = (real & (branch == 0)).sum(dim=1, keepdim=True)
    begins = branch != branch.roll(1, dims=1)
    start = torch.where(begins, order, 0).cummax(dim=1).values
    return torch.where(branch == 0, order, stem + order - start).clamp(min=0)


def _filled(packs: list[Tensor]) -> Tensor:
    """[G, W] from packs of unequal length."""
    return nn.utils.rnn.pad_sequence(packs, batch_first=True, padding_value=FILLER)


def _visible(owner: Tensor, branch: Tensor) -> Tensor:
    """[G, 1, W, W] bool: causal, and within a row, what it shares, and a continuation."""
    earlier = torch.ones(owner.shape[1], owner.shape[1], dtype=torch.bool).tril()
    alike = owner.unsqueeze(1) == owner.unsqueeze(2)
    along = (branch.unsqueeze(1) == 0) | (branch.unsqueeze(1) == branch.unsqueeze(2))
    allowed = earlier & ((alike & along) | (owner.unsqueeze(1) == 0))
    return allowed.unsqueeze(1)


def _groups(lengths: Sequence[int], shared: int, hidden: int) -> list[list[int]]:
    """Rows by packs, so that the work is least: few packs share more, short ones have smaller masks."""
    limit = max(MAX_WIDTH, shared + max(lengths))
    best: tuple[float, list[list[int]]] | None = None
    # All numbers of packs would take longer to try than they save.
    for count in (*(2**power for power in range((len(lengths) - 1).bit_length())), len(lengths)):
        packs, longest = _dealt(lengths, count)
        width = shared + longest
        # For each token a layer multiplies with about 12 H² weights, and attends with 2 H for each token of the pack.
        work = count * width * (1 + width / (6 * hidden))
        if width <= limit and (best is None or work < best[0]):
            best = work, packs
    assert best is not None
    return best[1]


def _dealt(lengths: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Rows by packs of nearly equal length, each row into the emptiest, the longest first; and the longest pack."""
    packs: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, pack) for pack in range(count)]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        tokens, pack = filled[0]
        packs[pack].append(row)
        heapq.heapreplace(filled, (tokens + lengths[row], pack))
    return packs, max(tokens for tokens, _ in filled)


def _attention(body: Any) -> str | None:
    return getattr(body.config.get_text_config(), "_attn_implementation", None)


def _drops_out(body: Any) -> bool:
    values = body.config.get_text_config().to_dict()
    named = any("drop" in name and isinstance(value, int | float) and value > 0 for name, value in values.items())
    return named or any(isinstance(module, nn.Dropout) and module.p > 0 for module in body.modules())
