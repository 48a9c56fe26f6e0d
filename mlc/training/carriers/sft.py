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

    trainer = encoder_trainer(training, ConsistencySeq2SeqTrainer)
    # Such models take the number of tokens of a step and pay no heed to it: the Trainer would add up the means of its
    # batches and processes, where it has to average them.
    trainer.model_accepts_loss_kwargs = False
    return trainer


SFT = Carrier(trainer=_trainer, encoder_trainer=_encoder_trainer)
