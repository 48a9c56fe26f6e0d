"""Supervised fine-tuning of an encoder-decoder model, and the term."""

from typing import Any

from transformers import Seq2SeqTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencySeq2SeqTrainer(ConsistencyMixin, Seq2SeqTrainer):  # type: ignore[misc]
    """Supervised fine-tuning of an encoder-decoder model, and the term on its encoder's states.

    Such models take the number of tokens of a step and pay no heed to it: the Trainer would add up the means of its
    batches and processes, where it has to average them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
