"""Reward-gap optimisation (MPO, arXiv 2505.16869) on pairs of an English prompt and a translation with its answers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor

from mlc.losses.reward_gap import reward_gap_loss
from mlc.models.continuations import continue_prompts
from mlc.models.states import prompt_states
from mlc.training.pairs import (
    PairTrainer,
    answer_ids,
    asked,
    batch_of,
    english_rows,
    prompt_ids,
    tokens_of,
)

if TYPE_CHECKING:
    from mlc.training.carriers.carrier import Training

LAST = -1
ANSWERS = ("chosen", "rejected")


class MPOTrainer(PairTrainer):
    """Draws the reward gap of translated answers to that of the English ones by the reference.

    The reference is the model before its first step. What is needed of it, a gap and a state for each English prompt,
    is computed when the trainer is made, so that no second model stays in memory.

    Args:
        english: English prompts as rows of tokens: ``prompt``, ``chosen``, ``rejected``.
        beta: See :func:`mlc.losses.reward_gap.reward_gap_loss`.
        retention: The same.
        **kwargs: Of ``PairTrainer``; rows of ``train_dataset`` have ``english``, the place of the English prompt,
            beside ``prompt``, ``chosen`` and ``rejected``.
    """

    def __init__(
        self, *, english: Sequence[Mapping[str, Any]], beta: float = 1.0, retention: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.beta, self.retention = beta, retention
        self.english = list(english)
        self.reference_gaps = self.of_the_start(self.english, self._gaps)
        self.reference_states = self.of_the_start(self.english, self._states)

    def loss_of(self, model: Any, pairs: Sequence[Mapping[str, Any]]) -> tuple[Tensor, dict[str, float]]:
        """The mean over the pairs; English prompts of several pairs are read once."""
        places = [int(pair["english"]) for pair in pairs]
        distinct = list(dict.fromkeys(places))
        own = torch.tensor([distinct.index(place) for place in places], device=self.reference_gaps.device)
        rows = torch.tensor(places, device=self.reference_gaps.device)
        found = reward_gap_loss(
            self._gaps(model, pairs),
            self.reference_gaps[rows],
            self._states(model, [self.english[place] for place in distinct])[own],
            self.reference_states[rows],
            beta=self.beta,
            retention=self.retention,
        )
        figures = {"reward_gap": float(found.gap.mean()), "retention": float(found.retention.mean())}
        return found.loss.mean(), figures

    def _gaps(self, model: Any, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """[N] reward gaps, in nats a token."""
        prompts, *answers = (tokens_of(rows, name) for name in ("prompt", *ANSWERS))
        if not all(one for answer in answers for one in answer):
            raise ValueError("MPO compares two answers, and one of them has no token: leave such rows out.")
        self.read(prompts, *answers)
        batch = batch_of(prompts, self.pad, self.args.device)
        scores = continue_prompts(model, batch, answers).mean_log_probabilities()
        return scores[:, 0] - scores[:, 1]

    def _states(self, model: Any, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """[N, H] of the last tokens of prompts, at the last layer."""
        prompts = tokens_of(rows, "prompt")
        self.read(prompts)
        batch = batch_of(prompts, self.pad, self.args.device)
        return prompt_states(model, batch.input_ids, batch.attention_mask, layer=LAST, pool="last")


def mpo_trainer(training: "Training") -> MPOTrainer:
    """The trainer of a training whose rows are pairs with both answers."""
    policy, settings = training.policy, training.settings

    def encoded(row: Mapping[str, Any]) -> dict[str, Any]:
        answers = {name: answer_ids(policy, row[name], settings.max_answer_tokens) for name in ANSWERS}
        return {"prompt": prompt_ids(policy.tokenizer, asked(row)), **answers}

    english, places = english_rows(training.pairs)
    pairs = [{**encoded(row), "english": place} for row, place in zip(training.pairs, places, strict=True)]
    found: MPOTrainer = MPOTrainer.of(
        training,
        Dataset.from_list(pairs),
        english=[encoded(row) for row in english],
        beta=settings.mpo.beta,
        retention=settings.mpo.retention,
    )
    return found
