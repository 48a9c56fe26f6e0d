"""What stands before a prompt in training, where a trainer of TRL adds to it."""

from typing import TYPE_CHECKING, Any

from mlc.models.prompts import encode_prompt

if TYPE_CHECKING:
    from datasets import Dataset


def begun_as_asked(trainer: Any, dataset: "Dataset") -> Any:
    """Takes out the beginning token that TRL's CPO and ORPO put before every prompt, where none stands when asked.

    Args:
        trainer: One of TRL's, with its tokenised ``train_dataset``; changed in place.
        dataset: What it was given: a column ``prompt``.
    """
    tokenizer = trainer.processing_class
    begin, first = tokenizer.bos_token_id, dataset[0]["prompt"]
    if begin is None or encode_prompt(tokenizer, first).input_ids[:1] == (begin,):
        return trainer
    sequences = [
        name for name in trainer.train_dataset.column_names if name.endswith(("input_ids", "attention_mask", "labels"))
    ]
    trainer.train_dataset = trainer.train_dataset.map(lambda row: {name: row[name][1:] for name in sequences})
    return trainer
