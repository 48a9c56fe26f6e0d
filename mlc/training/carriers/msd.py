"""Self-distillation (MSD) from the start of the model, which sees the English prompt too."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from mlc.training.msd import msd_trainer

    return msd_trainer(training)


MSD = Carrier(trainer=_trainer, reads_pairs=True, warm_start=False)
