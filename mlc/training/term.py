"""The consistency term as one object for any training loop."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlc.losses import Centering, ConsistencyHead, consistency_loss
from mlc.models.states import prompt_states
from mlc.training.settings import ConsistencySettings
from mlc.training.variants import VariantBatch


@dataclass(frozen=True)
class TermOutput:
    """The term of one batch and what to watch beside it."""

    loss: Tensor
    """Scalar with gradient: mean over the prompts, not yet multiplied by the weight."""
    collinearity: float
    """Mean share of the first squared singular value, of what the loss saw."""
    between_prompt_cosine: float
    """Mean cosine between English rows of different prompts, of what the loss saw: it rises to 1 when the model
    collapses different prompts onto one line. NaN with a single prompt."""


class ConsistencyTerm(nn.Module):
    """States at a layer, centring, extractor, loss: :math:`L_{cons}` of Bu et al. and its variants.

    Args:
        settings: The term.
        hidden_size: H of the model.
        languages: L, English included.
    """

    def __init__(self, settings: ConsistencySettings, hidden_size: int, languages: int) -> None:
        super().__init__()
        self.settings = settings
        self.centering = Centering(hidden_size, languages, center=settings.center, scope=settings.center_scope)
        self.head = nn.Identity() if settings.dim is None else ConsistencyHead(hidden_size, settings.dim)

    def forward(self, model: Any, variants: VariantBatch) -> TermOutput:
        """Computes the term; the model's forward pass stops at the configured layer.

        Args:
            model: The policy.
            variants: Prompts in their languages.
        """
        states = prompt_states(
            model,
            variants.prompts.input_ids,
            variants.prompts.attention_mask,
            layer=self.settings.layer,
            pool=self.settings.pool,
            content_mask=variants.prompts.content_mask,
        )
        grid = states.new_zeros(*variants.mask.shape, states.shape[-1])
        grid = grid.masked_scatter(variants.mask.unsqueeze(-1), states)
        z = self.head(self.centering(grid, variants.mask))
        result = consistency_loss(
            z,
            temperature=self.settings.temperature,
            form=self.settings.form,
            signed=self.settings.signed,
            anchor=self.settings.anchor,
            mask=variants.mask,
        )
        return TermOutput(result.loss.mean(), float(result.collinearity.mean()), _between_prompts(z[:, 0].detach()))


def _between_prompts(english: Tensor) -> float:
    count = len(english)
    if count < 2:
        return float("nan")
    unit = torch.nn.functional.normalize(english.float(), dim=-1)
    total = (unit @ unit.T).sum() - unit.square().sum()
    return float(total / (count * (count - 1)))
