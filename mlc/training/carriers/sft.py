"""Cross-entropy of the chosen answers."""

from typing import Any

from mlc.training.carriers.carrier import Carrier, Training
from mlc.training.carriers.encoded import encoder_trainer


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.sft import ConsistencyLeanSFTTrainer

    return ConsistencyLeanSFTTrainer(args=training.arguments(SFTConfig), **training.given())


def _encoder_trainer(training: Training) -> Any:
    from mlc.training.seq2seq import ConsistencySeq2SeqTrainer

    return encoder_trainer(training, ConsistencySeq2SeqTrainer)


SFT = Carrier(trainer=_trainer, encoder_trainer=_encoder_trainer)
