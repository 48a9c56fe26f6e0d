"""Training on single answers that people called good or bad (KTO, arXiv 2402.01306), in any languages."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor

from mlc.losses.feedback import feedback_loss
from mlc.models.continuations import continue_prompts
from mlc.shapes.feedback import FEEDBACK, GOOD
from mlc.shapes.history import Prompt
from mlc.training.pairs import PairTrainer, answer_ids, asked, batch_of, prompt_ids, tokens_of
from mlc.training.settings import FeedbackSettings
from mlc.training.together import mean_of_all

if TYPE_CHECKING:
    from mlc.training.carriers.carrier import Training


class FeedbackTrainer(PairTrainer):
    """Makes good answers likelier and bad ones less likely than unrelated answers have become.

    The reference is the model before its first step; the log-probabilities that are needed of it are computed when the
    trainer is made, so that no second model stays in memory. The reference point of a batch is the mean reward of its
    prompts with the answers of other ones, at least 0 and without a gradient, as published.

    Args:
        settings: The loss.
        **kwargs: Of ``PairTrainer``; rows of ``train_dataset`` have ``prompt`` and ``answer`` as tokens, ``other``, the
            answer to another prompt, ``good``, and ``number``, which is their place.
    """

    def __init__(self, *, settings: FeedbackSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        rows = [dict(row) for row in self.train_dataset]
        self.reference = self.of_the_start(rows, self._log_probabilities)

    def loss_of(self, model: Any, pairs: Sequence[Mapping[str, Any]]) -> tuple[Tensor, dict[str, float]]:
        """The mean over the answers."""
        places = torch.tensor([int(row["number"]) for row in pairs], device=self.reference.device)
        rewards = self._log_probabilities(model, pairs, ("answer",))[:, 0] - self.reference[places, 0]
        with torch.no_grad():
            others = self._log_probabilities(model, pairs, ("other",))[:, 0] - self.reference[places, 1]
            point = mean_of_all(others.mean()).clamp(min=0)
        good = torch.tensor([bool(row["good"]) for row in pairs], device=rewards.device)
        found = feedback_loss(
            rewards,
            good,
            point,
            beta=self.settings.beta,
            good_weight=self.settings.good_weight,
            bad_weight=self.settings.bad_weight,
        )
        means = {name: found.rewards[own].mean() for name, own in (("good", good), ("bad", ~good)) if bool(own.any())}
        figures = {f"reward_{name}": float(means.get(name, torch.tensor(float("nan")))) for name in ("good", "bad")}
        return found.loss.mean(), figures | {"reference_point": float(point)}

    def _log_probabilities(
        self, model: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ("answer", "other")
    ) -> Tensor:
        """[N, len(names)] of whole answers, in nats."""
        prompts, *answers = (tokens_of(rows, name) for name in ("prompt", *names))
        self.read(prompts, *answers)
        said = continue_prompts(model, batch_of(prompts, self.pad, self.args.device), answers)
        scores = said.mean_log_probabilities()
        lengths = [[len(ids) for ids in own] for own in answers]
        return scores * torch.tensor(lengths, device=scores.device).T


def answers_elsewhere(prompts: Sequence[Prompt]) -> list[int]:
    """For each row the place of the answer to another prompt: always the same, so that the reference is asked once.

    Args:
        prompts: Of the rows, several of which may ask the same.

    Returns:
        The next row, in a circle, that asks something else; the next one where all ask the same.
    """
    count = len(prompts)

    def elsewhere(place: int) -> int:
        circle = ((place + step) % count for step in range(1, count))
        return next((other for other in circle if prompts[other] != prompts[place]), (place + 1) % count)

    return [elsewhere(place) for place in range(count)]


def feedback_trainer(training: "Training") -> FeedbackTrainer:
    """The trainer of a training whose rows are answers with what people said of them."""
    policy, settings = training.policy, training.settings
    others = answers_elsewhere([asked(row) for row in training.pairs])
    answers = [answer_ids(policy, row["chosen"], settings.max_answer_tokens) for row in training.pairs]
    rows = [
        {
            "number": number,
            "prompt": prompt_ids(policy.tokenizer, asked(row)),
            "answer": answers[number],
            "other": answers[others[number]],
            "good": row[FEEDBACK] == GOOD,
        }
        for number, row in enumerate(training.pairs)
    ]
    found: FeedbackTrainer = FeedbackTrainer.of(training, Dataset.from_list(rows), settings=settings.feedback)
    return found
