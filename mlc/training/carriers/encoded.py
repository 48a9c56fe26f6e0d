"""What the carriers of encoder-decoders have in common."""

from dataclasses import replace
from typing import Any

from mlc.training.carriers.carrier import Training


def encoder_trainer(training: Training, kind: type[Any], **more: Any) -> Any:
    """A trainer for one training of an encoder-decoder.

    Args:
        training: With a dataset of ``input_ids``, ``attention_mask`` and ``labels``.
        kind: A ``Seq2SeqTrainer`` of transformers with the term before it.
        **more: Further arguments of the trainer.
    """
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainingArguments

    given = training.given()
    if adapter := given.pop("peft_config", None):
        from mlc.training.adapters import with_adapter

        given["model"] = with_adapter(given["model"], adapter, training.options["seed"])
    # Texts were measured and cut before, and the trainers of transformers know no longest one.
    options = {name: value for name, value in training.options.items() if name != "max_length"}
    arguments = replace(training, options=options).arguments(Seq2SeqTrainingArguments)
    collator = DataCollatorForSeq2Seq(given["processing_class"], model=given["model"])
    return kind(args=arguments, data_collator=collator, **given, **more)
