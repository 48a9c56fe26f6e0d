"""What `mlc plan` says that a training needs, beside the peak memory of that training in a process of its own."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import Figure, peak_kib, progress, rounded

CASES: Mapping[str, Mapping[str, Any]] = {
    "all weights": {},
    "all weights, batch of 4": {"batch_size": 4},
    "all weights, batch of 4, checkpointing": {"batch_size": 4, "gradient_checkpointing": True},
    "all weights, bfloat16": {"training_dtype": "bfloat16"},
    "all weights, adafactor": {"optim": "adafactor"},
    "all weights and term": {"consistency": {"weight": 1.0}},
    "LoRA": {"adapter": "lora"},
    "LoRA, batch of 4": {"adapter": "lora", "batch_size": 4},
    "LoRA, batch of 4, checkpointing": {"adapter": "lora", "batch_size": 4, "gradient_checkpointing": True},
    "LoRA, batch of 8, checkpointing": {"adapter": "lora", "batch_size": 8, "gradient_checkpointing": True},
    "LoRA, bfloat16": {"adapter": "lora", "training_dtype": "bfloat16"},
    "DPO": {"carrier": "dpo"},
    "DPO, LoRA": {"carrier": "dpo", "adapter": "lora"},
    "DPO, LoRA, checkpointing": {"carrier": "dpo", "adapter": "lora", "gradient_checkpointing": True},
}
"""Changes to an alignment of two prompts in a batch without a term."""
QUICK_CASES = ("all weights", "LoRA")
WORDS = 40
"""Of a prompt, and as many of an answer."""
LANGUAGES = 4
"""Beside English."""


@dataclass(frozen=True)
class Size:
    """The model, and how long it is trained."""

    layers: int
    hidden: int
    vocabulary: int
    steps: int


FULL = Size(layers=30, hidden=576, vocabulary=49_152, steps=2)
"""The shape of SmolLM2-135M, but for the width of its heads."""
QUICK = Size(layers=2, hidden=64, vocabulary=2_000, steps=2)


@dataclass(frozen=True)
class Trained:
    """One training."""

    added: int
    """KiB of its peak above what the process had with all libraries, before there was a model."""
    estimated: int
    """KiB, of a process that holds nothing else."""
    parts: Mapping[str, int]
    """MiB of the estimate."""


def run(*, quick: bool) -> Iterator[Figure]:
    """Each case in a process of its own, whose peak is its own."""
    size = QUICK if quick else FULL
    for name, changes in CASES.items():
        if quick and name not in QUICK_CASES:
            continue
        with get_context("spawn").Pool(1) as pool:
            trained = pool.apply(_trained, (dict(changes), size))
        progress(f"  {name}")
        value = rounded(trained.estimated / trained.added)
        detail = {
            "means": "peak memory that a training needs by the formula / that it added to its process",
            "min": value,
            "max": value,
            "MiB estimated": trained.estimated >> 10,
            "MiB measured": trained.added >> 10,
            "MiB by part": dict(trained.parts),
            **asdict(size),
        }
        yield Figure("memory", name, value, "ratio", detail)


def _trained(changes: dict[str, Any], size: Size) -> Trained:
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401
    from transformers import AutoTokenizer

    from mlc.models.loading import Policy
    from mlc.models.prompts import encode_prompt
    from mlc.models.sizes import shape_of
    from mlc.models.sources import resolve_model
    from mlc.shipped import shipped_data
    from mlc.training.align import align
    from mlc.training.memory import MIB, Lengths, Place, training_memory
    from mlc.training.settings import AlignSettings
    from tests.benchmarks.models import random_llama

    limits = {"max_prompt_tokens": 512, "max_answer_tokens": 512}
    usual = {"steps": size.steps, "batch_size": 2, **limits, "consistency": {"weight": 0.0}}
    settings = AlignSettings.model_validate({**usual, **changes})
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"))
    words = " ".join(["bread"] * WORDS)
    prompts = [f"{number} {words}" for number in range(settings.batch_size)]
    rows = [
        {"prompt": prompt, "chosen": words, "rejected": f"no {words}", "variants": [prompt] * (LANGUAGES + 1)}
        for prompt in prompts
    ]
    prompt = len(encode_prompt(tokenizer, prompts[0]).input_ids)
    answer = len(tokenizer(words, add_special_tokens=False)["input_ids"])
    before = peak_kib()
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    shape = shape_of(model.config.to_dict())
    if shape is None:
        raise RuntimeError("the model of the benchmark is of no known family.")
    if settings.training_dtype == "bfloat16":
        model = model.to(torch.bfloat16)
    policy = Policy(model, tokenizer, resolve_model("shipped:tiny"))
    with tempfile.TemporaryDirectory() as folder:
        align(policy, rows, settings, seed=0, folder=Path(folder))
    memory = training_memory(shape, settings, Lengths(prompt, answer), languages=LANGUAGES, place=Place(host=0))
    parts = {name: bytes_ // MIB for name, bytes_ in memory.parts.items()}
    return Trained(peak_kib() - before, memory.total >> 10, parts)
