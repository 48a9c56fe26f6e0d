"""Kullback-Leibler divergence to a frozen safe teacher, as a carrier."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Seq2SeqTrainer
from trl import SFTTrainer

from mlc.losses.divergence import divergence_of_entries
from mlc.models.adapters import is_adapted, without_adapter
from mlc.models.prefix import unwrapped
from mlc.training.mixin import ConsistencyMixin
from mlc.training.sharding import prepare_frozen


def teacher_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, *, count: Tensor | int | None = None
) -> Tensor:
    r"""Mean over the labelled tokens of :math:`KL(p_{teacher} \,\|\, p_{student})`.

    Args:
        student: [B, T, K] logits over K tokens, with gradient.
        teacher: [B, T, K] logits.
        labels: [B, T], −100 where a position does not count; the logits of a position are about its label.
        count: What to divide by; None = the number of labelled tokens.

    Returns:
        Scalar in nats, at least 0; 0 where nothing is labelled.

    Raises:
        ValueError: Teacher and student do not share a vocabulary.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"teacher and student must share a vocabulary: their logits are {list(teacher.shape)} and "
            f"{list(student.shape)}."
        )
    counted = labels != -100
    log_student = student[counted].float().log_softmax(dim=-1)
    log_teacher = teacher[counted].float().log_softmax(dim=-1)
    divergence = divergence_of_entries(log_teacher, log_student).sum()
    total: Tensor = divergence / torch.as_tensor(counted.sum() if count is None else count).clamp(min=1)
    return total


class _TeacherMixin:
    """A carrier whose loss is the divergence to a teacher on the tokens of the given English answers."""

    shifted: bool
    """Whether the logits of a position are about the label of the next one."""

    def __init__(self, *args: Any, teacher_model: nn.Module | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        if teacher_model is None:
            if not is_adapted(trainer.accelerator.unwrap_model(trainer.model)):
                raise ValueError("without a teacher_model the model needs an adapter: it is the teacher without it.")
            self.teacher_model = None
            return
        if unwrapped(teacher_model) is trainer.accelerator.unwrap_model(trainer.model):
            raise ValueError("teacher_model is the model that is trained: give another one, such as a copy of it.")
        self.teacher_model = prepare_frozen(trainer, teacher_model)

    @torch.no_grad()
    def _taught(self, given: dict[str, Any]) -> Tensor:
        """[B, T, K] logits of the teacher."""
        if self.teacher_model is not None:
            logits: Tensor = self.teacher_model(**given).logits
            return logits
        trainer: Any = self
        with without_adapter(trainer.accelerator.unwrap_model(trainer.model)) as start:
            logits = start(**given).logits
        return logits

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean divergence over the answers' tokens."""
        trainer: Any = self
        labels = inputs["labels"]
        # Encoder-decoder models make the decoder's input from the labels.
        given = {**inputs, "use_cache": False}
        if self.shifted:
            given.pop("labels")
        outputs = model(**given)
        student, teacher = outputs.logits, self._taught(given)
        if self.shifted:
            student, teacher, labels = student[:, :-1], teacher[:, :-1], labels[:, 1:]
        loss = teacher_divergence(student, teacher, labels, count=num_items_in_batch)
        if num_items_in_batch is not None and trainer.args.average_tokens_across_devices:
            # Counted over all processes, whose gradients are averaged.
            loss = loss * trainer.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class KLTrainer(_TeacherMixin, SFTTrainer):  # type: ignore[misc]
    """KL to a frozen safe teacher for decoder-only models, on the data of TRL's ``SFTTrainer``.

    Args:
        *args: Of ``SFTTrainer``.
        teacher_model: Causal language model with the same vocabulary; frozen here. None = the model itself without
            its adapter.
        **kwargs: Of ``SFTTrainer``.
    """

    shifted = True


class Seq2SeqKLTrainer(_TeacherMixin, Seq2SeqTrainer):  # type: ignore[misc]
    """KL to a frozen safe teacher for encoder-decoder models, on data with ``input_ids`` and ``labels``.

    Args:
        *args: Of ``Seq2SeqTrainer`` of transformers.
        teacher_model: Encoder-decoder model with the same vocabulary; frozen here.
        **kwargs: Of ``Seq2SeqTrainer``.
    """

    shifted = False


class ConsistencyKLTrainer(ConsistencyMixin, KLTrainer):
    """KL to a frozen safe teacher on English answers, and the term. Takes ``teacher_model``."""


class ConsistencySeq2SeqKLTrainer(ConsistencyMixin, Seq2SeqKLTrainer):
    """KL of an encoder-decoder model to a frozen safe teacher, and the term on its encoder's states."""
