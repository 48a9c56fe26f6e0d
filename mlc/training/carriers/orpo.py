"""Odds-ratio preference optimisation: the chosen answers before the rejected ones."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl.experimental.orpo import ORPOConfig

    from mlc.training.orpo import ConsistencyORPOTrainer
    from mlc.training.prefix import begun_as_asked

    arguments = training.arguments(ORPOConfig, beta=training.settings.strength, remove_unused_columns=False)
    return begun_as_asked(ConsistencyORPOTrainer(args=arguments, **training.given()), training.dataset)


ORPO = Carrier(trainer=_trainer, needs_rejected=True, beta=0.1)
