"""Divergence from a frozen safe teacher on the tokens of the chosen answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.kl import ConsistencyKLTrainer

    # A policy with an adapter is its own teacher without it.
    if training.teacher is None and not training.settings.adapter:
        raise ValueError("the carrier kl needs a teacher.")
    arguments = training.arguments(SFTConfig)
    teacher = training.teacher.model if training.teacher else None
    return ConsistencyKLTrainer(args=arguments, teacher_model=teacher, **training.given())


KL = Carrier(trainer=_trainer, needs_teacher=True)
