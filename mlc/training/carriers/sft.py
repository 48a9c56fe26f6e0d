"""Cross-entropy of the chosen answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.sft import ConsistencyLeanSFTTrainer

    return ConsistencyLeanSFTTrainer(args=training.arguments(SFTConfig), **training.given())


SFT = Carrier(trainer=_trainer)
