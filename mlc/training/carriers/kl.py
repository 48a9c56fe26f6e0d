"""Divergence from a frozen safe teacher on the tokens of the chosen answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.kl import ConsistencyKLTrainer

    if training.teacher is None:
        raise ValueError("the carrier kl needs a teacher.")
    arguments = training.arguments(SFTConfig)
    return ConsistencyKLTrainer(args=arguments, teacher_model=training.teacher.model, **training.given())


KL = Carrier(trainer=_trainer, needs_teacher=True)
