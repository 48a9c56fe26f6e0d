"""Divergence from a frozen safe teacher on the tokens of the chosen answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training
from mlc.training.carriers.encoded import encoder_trainer


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.kl import ConsistencyKLTrainer

    teacher = _teacher(training)
    return ConsistencyKLTrainer(args=training.arguments(SFTConfig), teacher_model=teacher, **training.given())


def _encoder_trainer(training: Training) -> Any:
    from mlc.training.kl import ConsistencySeq2SeqKLTrainer

    return encoder_trainer(training, ConsistencySeq2SeqKLTrainer, teacher_model=_teacher(training))


def _teacher(training: Training) -> Any:
    # A policy with an adapter is its own teacher without it.
    if training.teacher is None and not training.settings.adapter:
        raise ValueError("the carrier kl needs a teacher.")
    return training.teacher.model if training.teacher else None


KL = Carrier(trainer=_trainer, encoder_trainer=_encoder_trainer, needs_teacher=True)
