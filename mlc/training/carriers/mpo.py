"""Reward-gap optimisation (MPO) on pairs with both answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from mlc.training.mpo import mpo_trainer

    return mpo_trainer(training)


MPO = Carrier(trainer=_trainer, needs_rejected=True, reads_pairs=True, warm_start=False)
