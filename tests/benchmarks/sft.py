"""A step of supervised fine-tuning by the pipeline's trainer, against the same step by TRL's."""

import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from mlc.models.packing import pack_rows
from mlc.shipped import shipped_data
from mlc.training import LeanSFTTrainer
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_tokens

PAD = 0


@dataclass(frozen=True)
class Size:
    """The model, the batch, and how often it is measured."""

    layers: int
    hidden: int
    vocabulary: int
    rows: int
    template_tokens: int
    prompt_tokens: tuple[int, int]
    answer_tokens: tuple[int, int]
    rounds: int


FULL = Size(
    layers=30,
    hidden=576,
    vocabulary=49_152,
    rows=8,
    template_tokens=31,
    prompt_tokens=(12, 40),
    answer_tokens=(18, 62),
    rounds=5,
)
"""The shape of SmolLM2-135M, and lengths as in the quickstart."""
QUICK = Size(
    layers=2,
    hidden=64,
    vocabulary=2_000,
    rows=4,
    template_tokens=10,
    prompt_tokens=(4, 8),
    answer_tokens=(4, 12),
    rounds=3,
)


def run(*, quick: bool) -> Iterator[Figure]:
    """Forward and backward of one batch, both ways."""
    size = QUICK if quick else FULL
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    trainer, batch = _trainer(model), _batch(size)
    ways = {"lean": LeanSFTTrainer.compute_loss, "stock": SFTTrainer.compute_loss}
    found: dict[str, tuple[float, Tensor]] = {}

    def step(name: str) -> Callable[[], None]:
        def run_step() -> None:
            model.zero_grad(set_to_none=True)
            loss = ways[name](trainer, model, dict(batch))
            loss.backward()
            found[name] = float(loss.detach()), model.get_input_embeddings().weight.grad

        return run_step

    steps = {name: step(name) for name in ways}
    for one in steps.values():
        one()
    (lean_loss, lean_gradient), (stock_loss, stock_gradient) = found["lean"], found["stock"]
    difference = float((lean_gradient - stock_gradient).abs().max())
    require_agreement("losses", abs(lean_loss - stock_loss), 1e-4)
    require_agreement("gradients of the embeddings", difference, 1e-4)
    lean, stock = alternate([steps["lean"], steps["stock"]], rounds=size.rounds)
    packed = pack_rows(model.get_decoder(), batch["input_ids"], batch["attention_mask"], batch["labels"] != -100)
    assert packed is not None
    facts = {
        **asdict(size),
        "padded_tokens": batch["input_ids"].numel(),
        "packed_tokens": packed.input_ids.numel(),
        "labelled_tokens": int((batch["labels"] != -100).sum()),
        "largest_difference": difference,
        "threads": torch.get_num_threads(),
    }
    yield ratio("sft", "speed-up", "step of SFTTrainer / step of LeanSFTTrainer", stock, lean, **facts)


def _trainer(model: Any) -> LeanSFTTrainer:
    # One row, so that there is a trainer; the batch is made by hand.
    row = {"prompt": "a", "completion": "b"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = LeanSFTTrainer(
            model=model,
            args=SFTConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False),
            train_dataset=Dataset.from_list([row]),
            processing_class=AutoTokenizer.from_pretrained(shipped_data("tiny")),
        )
    model.train()
    return trainer


def _batch(size: Size) -> dict[str, Tensor]:
    """As TRL's collator gives it: padded on the right."""
    generator = random.Random(0)

    def tokens(lengths: tuple[int, int]) -> tuple[int, ...]:
        return random_tokens(generator, *lengths, size.vocabulary)

    template = tokens((size.template_tokens, size.template_tokens))
    rows = [(template + tokens(size.prompt_tokens), tokens(size.answer_tokens)) for _ in range(size.rows)]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {
        "input_ids": torch.full((size.rows, width), PAD),
        "attention_mask": torch.zeros(size.rows, width, dtype=torch.long),
        "labels": torch.full((size.rows, width), -100),
    }
    for row, (prompt, answer) in enumerate(rows):
        stop = len(prompt) + len(answer)
        batch["input_ids"][row, :stop] = torch.tensor(prompt + answer)
        batch["attention_mask"][row, :stop] = 1
        batch["labels"][row, len(prompt) : stop] = torch.tensor(answer)
    return batch
