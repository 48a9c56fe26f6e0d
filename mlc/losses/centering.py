"""Subtraction of what all prompts share.

The last token of a prompt is the chat template's own, the same in every prompt and language, so raw states are
nearly collinear before any training (97.5 % in SmolLM2-135M). What carries the prompt is what is left after the
common part is taken away. The paper does not centre; this is ours.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from mlc.choices import Center, CenterScope


class Centering(nn.Module):
    """Subtracts a mean state, always detached, from [B, L, H] states.

    Args:
        size: H.
        languages: L.
        center: ``none``; ``batch``: the mean over the batch; ``running``: an exponential mean over the steps, which
            is part of the module's state and is saved with it.
        scope: Which rows make the mean: ``english`` (row 0), ``overall`` (every row), or ``per_language`` (each
            language's own mean).
        momentum: Weight of the newest batch in the running mean, in (0, 1].
        across_processes: Whether the mean is over the batches of all processes of ``torch.distributed``; then all of
            them have to call the module equally often, with an empty batch if need be.

    Raises:
        ValueError: A choice or the momentum is not allowed.
    """

    mean: Tensor
    started: Tensor

    def __init__(
        self,
        size: int,
        languages: int,
        *,
        center: Center = "batch",
        scope: CenterScope = "english",
        momentum: float = 0.1,
        across_processes: bool = False,
    ) -> None:
        super().__init__()
        if center not in get_args(Center):
            raise ValueError(f"center must be one of {', '.join(get_args(Center))}, not {center!r}.")
        if scope not in get_args(CenterScope):
            raise ValueError(f"scope must be one of {', '.join(get_args(CenterScope))}, not {scope!r}.")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1], not {momentum}.")
        self.center, self.scope, self.momentum, self.across_processes = center, scope, momentum, across_processes
        rows = languages if scope == "per_language" else 1
        self.register_buffer("mean", torch.zeros(rows, size))
        self.register_buffer("started", torch.zeros(rows, dtype=torch.bool))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Centres a batch; in training mode the running mean moves first.

        Args:
            states: [B, L, H].
            mask: [B, L] bool, False for rows that do not count.

        Returns:
            [B, L, H]; the gradient of the subtracted mean is stopped.
        """
        if self.center == "none":
            return states
        valid = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device) if mask is None else mask
        with torch.no_grad():
            batch_mean, present = self._batch_mean(states.detach(), valid)
            if self.center == "running":
                if self.training:
                    self._move(batch_mean, present)
                batch_mean = self.mean.to(batch_mean.dtype)
        return (states - batch_mean).to(states.dtype)

    def _batch_mean(self, states: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        if self.scope == "english":
            states, valid = states[:, :1], valid[:, :1]
        # Sums of many rows leave the range of float16, and means in bfloat16 are off by more than rows differ.
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        weights = valid.to(states.dtype).unsqueeze(-1)
        over = (0, 1) if self.scope == "overall" else (0,)
        count = weights.sum(dim=over)
        # What does not count may be anything, and 0 times NaN is NaN.
        total = states.masked_fill(~valid.unsqueeze(-1), 0.0).sum(dim=over)
        if self.across_processes:
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        mean = (total / count.clamp(min=1)).reshape(len(self.mean), -1)
        return mean, (count > 0).reshape(-1)

    def _move(self, batch_mean: Tensor, present: Tensor) -> None:
        new = batch_mean.to(self.mean.dtype)
        moved = torch.where(self.started.unsqueeze(-1), self.mean.lerp(new, self.momentum), new)
        self.mean.copy_(torch.where(present.unsqueeze(-1), moved, self.mean))
        self.started.logical_or_(present)
