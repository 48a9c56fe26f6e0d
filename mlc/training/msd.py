"""Self-distillation from a teacher that sees the English prompt (MSD, arXiv 2605.02971), off- or on-policy."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor

from mlc.errors import UserError
from mlc.left_out import LeftOut
from mlc.losses.guided import guided_loss
from mlc.models.adapters import is_adapted, without_adapter
from mlc.models.bounds import context_of
from mlc.models.continuations import continue_prompts
from mlc.models.copies import frozen_copy
from mlc.models.sampling import own_answers
from mlc.shapes.history import TURNS, conversation
from mlc.training.pairs import PairTrainer, asked, batch_of, prompt_ids, tokens_of
from mlc.training.settings import MSDSettings
from mlc.training.translated import ENGLISH

if TYPE_CHECKING:
    from mlc.training.carriers.carrier import Training


class MSDTrainer(PairTrainer):
    """Makes a model answer a translation as its frozen start answers when it sees the English prompt as well.

    Answers are sampled anew in each step, by the teacher or by the student, and read by both. The teacher is a frozen
    copy; of a model with an adapter, it is the model without it.

    Args:
        settings: The method.
        **kwargs: Of ``PairTrainer``; rows of ``train_dataset`` have ``prompt``, the translation, and ``guided``, what
            the teacher sees.
    """

    def __init__(self, *, settings: MSDSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        model = self.accelerator.unwrap_model(self.model)
        # In a tuple, so that it is no part of what is trained.
        self._teacher = () if is_adapted(model) else (frozen_copy(model),)

    def loss_of(self, model: Any, pairs: Sequence[Mapping[str, Any]]) -> tuple[Tensor, dict[str, float]]:
        """The weighted mean over the tokens of the answers."""
        prompts, guided = tokens_of(pairs, "prompt"), tokens_of(pairs, "guided")
        asked_of_student = batch_of(prompts, self.pad, self.args.device)
        asked_of_teacher = batch_of(guided, self.pad, self.args.device)
        if self.settings.policy == "off":
            with self._teaching(model) as teacher:
                answers = own_answers(teacher, asked_of_teacher, self.settings.answer_tokens, sample=True)
        else:
            answers = own_answers(model, asked_of_student, self.settings.answer_tokens, sample=True)
        self.read(prompts, guided, answers, answers)
        with torch.no_grad(), self._teaching(model) as teacher:
            taught, _ = continue_prompts(teacher, asked_of_teacher, [answers]).of(0)
        said, tokens = continue_prompts(model, asked_of_student, [answers]).of(0)
        found = guided_loss(said, taught, top=self.settings.top, tokens=tokens, weighted=self.settings.weighted)
        return found.loss, {"answer_tokens": float(tokens.sum()) / len(pairs)}

    def _teaching(self, model: Any) -> AbstractContextManager[Any]:
        """A block in which the teacher answers, and nothing is trained."""
        return nullcontext(self._teacher[0]) if self._teacher else without_adapter(model)


def msd_trainer(training: "Training") -> MSDTrainer:
    """The trainer of a training whose rows are pairs; those that a model cannot read whole are left out and counted.

    Raises:
        UserError: None is left.
    """
    tokenizer, settings = training.policy.tokenizer, training.settings.msd
    given = [
        {
            "prompt": prompt_ids(tokenizer, asked(row)),
            "guided": prompt_ids(tokenizer, conversation(guided_text(row, settings), row.get(TURNS))),
        }
        for row in training.pairs
    ]
    context = context_of(training.policy.model.config.to_dict())
    limit = None if context is None else context - settings.answer_tokens
    pairs = [pair for pair in given if limit is None or max(map(len, pair.values())) <= limit]
    if not pairs:
        raise UserError(
            f"None of the {len(given)} translated prompts can be read with its English prompt, the instruction and "
            f"{settings.answer_tokens} tokens of an answer: the policy reads at most {context} tokens at once. Lower "
            "align.msd.answer_tokens, or take shorter prompts."
        )
    found: MSDTrainer = MSDTrainer.of(training, Dataset.from_list(pairs), settings=settings)
    found.left_out = [LeftOut("long guided prompt", len(given) - len(pairs), len(given), limit)]
    return found


def guided_text(row: Mapping[str, Any], settings: MSDSettings) -> str:
    """What the teacher sees in place of a translation: itself, the English prompt, and the instruction."""
    return f"{row['prompt']}\n\n{row[ENGLISH]['prompt']}\n\n{settings.instruction}"
