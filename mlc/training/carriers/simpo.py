"""Simple preference optimisation: the chosen answers before the rejected ones, without a reference."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl.experimental.cpo import CPOConfig

    from mlc.training.cpo import ConsistencyCPOTrainer
    from mlc.training.prefix import begun_as_asked

    settings = training.settings
    simpo = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": settings.simpo_gamma}
    arguments = training.arguments(CPOConfig, beta=settings.strength, remove_unused_columns=False, **simpo)
    return begun_as_asked(ConsistencyCPOTrainer(args=arguments, **training.given()), training.dataset)


SIMPO = Carrier(trainer=_trainer, needs_rejected=True, beta=2.0)
