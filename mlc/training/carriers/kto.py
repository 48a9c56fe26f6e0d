"""Single answers that people called good or bad (KTO), in place of English examples."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from mlc.training.feedback import feedback_trainer

    return feedback_trainer(training)


KTO = Carrier(trainer=_trainer, reads_pairs=True, reads_feedback=True, warm_start=False)
