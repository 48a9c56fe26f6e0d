"""Supervised fine-tuning of an encoder-decoder model, and the term."""

from transformers import Seq2SeqTrainer

from mlc.training.mixin import ConsistencyMixin


class ConsistencySeq2SeqTrainer(ConsistencyMixin, Seq2SeqTrainer):  # type: ignore[misc]
    """Supervised fine-tuning of an encoder-decoder model, and the term on its encoder's states."""
