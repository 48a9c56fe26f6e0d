"""Greedy search and sampling with an encoder-decoder model, many target languages in one run of the decoder.

Dimensions: S sentences, L languages, R rows (S·L, all languages of a sentence side by side), P source positions,
T generated tokens, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SHRINK_SHARE = 0.125
"""Finished rows leave the batch once they are this share of it: sooner, moving the others costs more than it saves."""


@dataclass(frozen=True)
class Generated:
    """What was generated for one row."""

    ids: list[int]
    """Tokens after the language, ``</s>`` included where it came."""
    logprob_sum: float
    """Their natural log-probabilities, added up."""
    ended: bool
    """Whether ``</s>`` came."""


def decode_rows(
    model: Any,
    states_SPD: "Tensor",
    mask_SP: "Tensor",
    languages: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    draws_RT: "Tensor | None" = None,
) -> list[Generated]:
    """Generates the translation of each sentence into each language.

    Equal to ``generate`` with one beam and the language forced as first token, at temperature 0.

    Args:
        model: Encoder-decoder model with ``model.decoder`` and ``lm_head``, in evaluation mode.
        states_SPD: Output of its encoder.
        mask_SP: 1 at tokens, 0 at padding.
        languages: Token of each target language.
        max_new_tokens: Longest row, the language token counted.
        temperature: Above 0, rows are sampled at this temperature.
        draws_RT: Uniform numbers in [0, 1) to sample with, float64, one a token; needed above temperature 0.

    Returns:
        One entry a row: the languages of the first sentence, then those of the second.
    """
    import torch

    config = model.config
    rows = len(states_SPD) * len(languages)
    decoder = _Decoder(model, states_SPD, mask_SP)
    # Every row starts with the same token, so its state, and the keys and values of the source, are computed once a
    # sentence and copied to the languages.
    decoder.step(torch.full((len(states_SPD),), config.decoder_start_token_id, device=states_SPD.device))
    decoder.repeat(len(languages))
    token_R = torch.tensor(languages, device=states_SPD.device).repeat(len(states_SPD))
    ids_RT = torch.full((rows, max_new_tokens - 1), config.pad_token_id, device=states_SPD.device)
    logprob_R = torch.zeros(rows, dtype=torch.float64, device=states_SPD.device)
    count_R = torch.zeros(rows, dtype=torch.long, device=states_SPD.device)
    # The rows that are still in the batch, and which of them go on.
    place_R = torch.arange(rows, device=states_SPD.device)
    # Only some families have one, such as mBART.
    bias_V = getattr(model, "final_logits_bias", 0)
    open_R = torch.ones(rows, dtype=torch.bool, device=states_SPD.device)
    for position in range(max_new_tokens - 1):
        logits_RV = (model.lm_head(decoder.step(token_R)) + bias_V).float()
        if temperature:
            assert draws_RT is not None
            chosen_R = _sample(logits_RV / temperature, draws_RT[place_R, position])
        else:
            chosen_R = logits_RV.argmax(dim=-1)
        chosen_logprob_R = logits_RV.gather(-1, chosen_R[:, None]).squeeze(-1) - logits_RV.logsumexp(dim=-1)
        token_R = torch.where(open_R, chosen_R, config.pad_token_id)
        ids_RT[place_R, position] = token_R
        logprob_R[place_R] += torch.where(open_R, chosen_logprob_R, 0.0).double()
        count_R[place_R] += open_R
        open_R = open_R & (token_R != config.eos_token_id)
        left = int(open_R.sum())
        if left == 0:
            break
        if len(open_R) - left >= SHRINK_SHARE * len(open_R):
            kept = open_R.nonzero().squeeze(-1)
            decoder.keep(kept)
            token_R, place_R, open_R = token_R[kept], place_R[kept], open_R[kept]
    return [
        Generated(ids[:count], logprob, ended=count > 0 and ids[count - 1] == config.eos_token_id)
        for ids, logprob, count in zip(ids_RT.tolist(), logprob_R.tolist(), count_R.tolist(), strict=True)
    ]


class _Decoder:
    """The decoder with what it remembers of each row."""

    def __init__(self, model: Any, states_SPD: "Tensor", mask_SP: "Tensor") -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self._decoder = model.get_decoder()
        self._cache = EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))
        self._states_RPD = states_SPD
        self._mask_RP = mask_SP

    def step(self, token_R: "Tensor") -> "torch.Tensor":
        """Reads one more token of each row, and returns the last states [R, D]."""
        states_R1D: torch.Tensor = self._decoder(
            input_ids=token_R[:, None],
            encoder_hidden_states=self._states_RPD,
            encoder_attention_mask=self._mask_RP,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return states_R1D[:, -1]

    def repeat(self, times: int) -> None:
        """Puts copies of each row beside it."""
        self._cache.batch_repeat_interleave(times)
        self._mask_RP = self._mask_RP.repeat_interleave(times, dim=0)
        self._shrink_states()

    def keep(self, rows: "Tensor") -> None:
        """Forgets all other rows."""
        self._cache.batch_select_indices(rows)
        self._mask_RP = self._mask_RP[rows]
        self._shrink_states()

    def _shrink_states(self) -> None:
        # After the first step the source is in the cache; of its states only the shape is looked at.
        self._states_RPD = self._states_RPD[:1].expand(len(self._mask_RP), -1, -1)


def _sample(logits_RV: "Tensor", draw_R: "Tensor") -> "Tensor":
    """Picks the token at which the cumulated probability passes the draw."""
    cumulated_RV = logits_RV.double().softmax(dim=-1).cumsum(dim=-1)
    # A sum that ends a little below 1 would let the last draws pass every token.
    scaled_R1 = draw_R[:, None].to(cumulated_RV) * cumulated_RV[:, -1:]
    return (cumulated_RV <= scaled_R1).sum(dim=-1).clamp(max=logits_RV.shape[-1] - 1)
