"""The consistency term as one object for any training loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlc.losses import Centering, ConsistencyHead, collinearity, consistency_loss
from mlc.losses.weights import mean_over_prompts
from mlc.models.states import prompt_states, state_size
from mlc.training.settings import ConsistencyConfig, TermSettings
from mlc.training.variants import (
    Text,
    VariantBatch,
    batch_variants,
    encode_variants,
    in_languages,
    longest_text,
    require_languages,
    require_names,
)

FIGURES = ("consistency_loss", "collinearity", "centred_collinearity", "between_prompt_cosine")
"""What a training log shows of the term."""


@dataclass(frozen=True)
class TermOutput:
    """The term of one batch and what to watch beside it."""

    loss: Tensor
    """Scalar with gradient: mean over the prompts, not yet multiplied by the weight."""
    collinearity: float
    """Mean share of the first squared singular value, of the raw states at the layer: what the published loss raises.
    The template's own tokens keep it high before any training."""
    centred_collinearity: float
    """The same after the mean English state of the batch is subtracted: what is left of it is about the prompt."""
    between_prompt_cosine: float
    """Mean cosine between the raw English states of different prompts: it rises to 1 when the model collapses prompts
    onto one line, and then the other figures mean nothing. NaN with a single prompt."""

    def figures(self) -> dict[str, float]:
        """The values of :data:`FIGURES`."""
        watched = (self.collinearity, self.centred_collinearity, self.between_prompt_cosine)
        return dict(zip(FIGURES, (float(self.loss.detach()), *watched), strict=True))


class ConsistencyTerm(nn.Module):
    """States at a layer, centring, extractor, loss: :math:`L_{cons}` of Bu et al. and its variants.

    Args:
        config: The term.
        model: The policy, whose hidden size is read; or that size.
        languages: Names of the languages, English first; or how many they are.
        seed: Seed of the extractor's first weights; the caller's random state stays as it is.
        across_processes: Whether centring takes the mean over all processes, see :class:`mlc.losses.Centering`.

    Raises:
        ValueError: ``language_weights`` names a language that is not there, or leaves nothing to compare.
    """

    language_weights: Tensor | None

    def __init__(
        self,
        config: ConsistencyConfig,
        model: Any,
        languages: int | Sequence[str],
        *,
        seed: int = 0,
        across_processes: bool = False,
    ) -> None:
        super().__init__()
        size = model if isinstance(model, int) else state_size(model, config.layer)
        if not isinstance(languages, int):
            require_names(languages)
        names = [str(place) for place in range(languages)] if isinstance(languages, int) else list(languages)
        self.config = config
        self.max_tokens = longest_text(model, config.max_tokens)
        self.names = tuple(names)
        self.languages = len(names)
        self.centering = Centering(
            size,
            len(names),
            center=config.center,
            scope=config.center_scope,
            across_processes=across_processes,
        )
        # It seeds the generators of all devices.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Identity() if config.dim is None else ConsistencyHead(size, config.dim)
        self.register_buffer("language_weights", language_weights(config, names), persistent=False)

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
            layer=self.config.layer,
            pool=self.config.pool,
            content_mask=variants.prompts.content_mask,
        )
        return self.of_states(states, variants)

    def of_states(self, states: Tensor, variants: VariantBatch) -> TermOutput:
        """Computes the term from the states of the prompts, where something else has computed them.

        Args:
            states: [N, H], in the order of the rows of the batch.
            variants: Prompts in their languages.

        Raises:
            ValueError: They are in more or fewer languages than the term is for.
        """
        require_languages(variants, self.names)
        # Weights in bfloat16 give states in bfloat16; the extractor and the means are more precise.
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        grid = states.new_zeros(*variants.mask.shape, states.shape[-1])
        grid = grid.masked_scatter(variants.mask.unsqueeze(-1), states)
        weighted: dict[str, Any] = {
            "mask": variants.mask,
            "language_weights": self.language_weights,
            "row_weights": variants.weights,
        }
        result = consistency_loss(
            self.head(self.centering(grid, variants.mask)),
            temperature=self.config.temperature,
            form=self.config.form,
            signed=self.config.signed,
            anchor=self.config.anchor,
            **weighted,
        )
        # In the spectral forms a prompt with more weight has the larger loss by itself.
        averaged = self.config.form in ("cosine", "contrastive")
        loss = mean_over_prompts(result.loss, **weighted) if averaged else result.loss.mean()
        if self._centred_away(len(grid)):
            loss = 0.0 * loss
        return TermOutput(loss, *_watched(grid.detach(), variants.mask))

    def _centred_away(self, prompts: int) -> bool:
        """Whether the mean that is subtracted is the English row itself, as of the last prompt of a pass alone."""
        return prompts == 1 and not self.centering.across_processes and self.config.centres_alone_away

    def encode(
        self, tokenizer: Any, texts: Sequence[Sequence[Text | None] | Mapping[str, Text | None]]
    ) -> VariantBatch | None:
        """A batch from texts, for loops of one's own.

        Args:
            tokenizer: Fast tokenizer of the policy; its chat template is used if it has one.
            texts: Prompts in their languages, English first, or as mappings from the names of the languages; None or an
                empty text where a language is missing.

        Returns:
            None if no prompt has a translation.

        Raises:
            ValueError: A prompt has not one text for each language.
        """
        config = self.config
        variants = [
            encode_variants(
                tokenizer,
                in_languages(row, self.names),
                max_tokens=self.max_tokens,
                with_content=config.needs_content,
                languages=self.names,
            )
            for row in texts
        ]
        return batch_variants(variants, tokenizer.pad_token_id or 0, limit=config.prompts_per_step)

    def take_part(self) -> None:
        """What a process without prompts has to call in place of the term: the means over all processes wait for it."""
        if self.centering.across_processes:
            mean = self.centering.mean
            self.centering(mean.new_zeros(0, self.languages, mean.shape[1]))

    def weight(self, step: int) -> float:
        """Lambda in an optimiser step, counted from 0; 0 where the term is off and need not be computed."""
        return self.config.weight_at(step)


def language_weights(term: TermSettings, names: Sequence[str]) -> Tensor | None:
    """[L] weights of the languages of a term; None where it names none.

    Args:
        term: The term.
        names: [L] names of the languages.

    Raises:
        ValueError: The term names a language that is not there, or leaves nothing to compare.
    """
    weights = term.weights_of(names)
    return None if weights is None else torch.tensor(weights)


@torch.no_grad()
def _watched(states: Tensor, mask: Tensor) -> tuple[float, float, float]:
    raw = collinearity(states, mask).mean()
    centred = states - states[:, :1].mean(dim=0, keepdim=True)
    about_prompt = collinearity(centred, mask).mean()
    return float(raw), float(about_prompt), _between_prompts(states[:, 0])


def _between_prompts(english: Tensor) -> float:
    count = len(english)
    if count < 2:
        return float("nan")
    unit = torch.nn.functional.normalize(english, dim=-1)
    total = (unit @ unit.T).sum() - unit.square().sum()
    return float(total / (count * (count - 1)))
