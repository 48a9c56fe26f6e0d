"""What `mlc plan` says that a training needs, beside the peak memory of that training in a process of its own."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import Figure, peak_kib, progress

CASES: Mapping[str, Mapping[str, Any]] = {
    "all weights": {},
    "all weights, batch of 4": {"batch_size": 4},
    "all weights, checkpointing": {"batch_size": 4, "gradient_checkpointing": True},
    "all weights, bfloat16": {"training_dtype": "bfloat16"},
    "all weights, adafactor": {"optim": "adafactor"},
    "all weights and term": {"consistency": {"weight": 1.0}},
    "LoRA": {"adapter": "lora"},
    "LoRA, batch of 4": {"adapter": "lora", "batch_size": 4},
    "LoRA, checkpointing": {"adapter": "lora", "batch_size": 4, "gradient_checkpointing": True},
    "LoRA, bfloat16": {"adapter": "lora", "training_dtype": "bfloat16", "batch_size": 4},
    "DPO": {"carrier": "dpo"},
    "DPO, LoRA": {"carrier": "dpo", "adapter": "lora"},
}
"""Changes to an alignment of two prompts in a batch without a term."""
WORDS = 40
"""Of a prompt, and as many of an answer."""


@dataclass(frozen=True)
class Size:
    """The model, and how long it is trained."""

    layers: int
    hidden: int
    vocabulary: int
    steps: int


FULL = Size(layers=30, hidden=576, vocabulary=49_152, steps=2)
"""The shape of SmolLM2-135M."""
QUICK = Size(layers=2, hidden=64, vocabulary=2_000, steps=2)


def run(*, quick: bool) -> Iterator[Figure]:
    """Each case in a process of its own, whose peak is its own."""
    size = QUICK if quick else FULL
    for name, changes in CASES.items():
        with get_context("spawn").Pool(1) as pool:
            added, rows, tokens, answer = pool.apply(_trained, (dict(changes), size))
        progress(f"  {name}")
        print(name, added >> 10, rows, tokens, answer, flush=True)


def _trained(changes: dict[str, Any], size: Size) -> tuple[int, int, int, int]:
    import torch
    from transformers import AutoTokenizer

    from mlc.models.loading import Policy
    from mlc.models.prompts import encode_prompt
    from mlc.models.sources import resolve_model
    from mlc.shipped import shipped_data
    from mlc.training.align import align
    from mlc.training.settings import AlignSettings
    from tests.benchmarks.models import random_llama

    settings = AlignSettings.model_validate(
        {
            "steps": size.steps,
            "batch_size": 2,
            "max_prompt_tokens": 512,
            "max_answer_tokens": 512,
            "consistency": {"weight": 0.0},
            **changes,
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"))
    words = " ".join(["bread"] * WORDS)
    rows = [
        {
            "prompt": f"{number} {words}",
            "chosen": words,
            "rejected": f"no {words}",
            "variants": [f"{number} {words}"] * 5,
        }
        for number in range(settings.batch_size)
    ]
    prompt = len(encode_prompt(tokenizer, rows[0]["prompt"]).input_ids)
    answer = len(tokenizer(words, add_special_tokens=False)["input_ids"])
    before = peak_kib()
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    if settings.training_dtype == "bfloat16":
        model = model.to(torch.bfloat16)
    policy = Policy(model, tokenizer, resolve_model("shipped:tiny"))
    with tempfile.TemporaryDirectory() as folder:
        align(policy, rows, settings, seed=0, folder=Path(folder))
    return peak_kib() - before, len(rows), prompt, answer
