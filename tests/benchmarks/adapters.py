"""A step of alignment with an adapter: its memory beside training all weights, its time beside TRL's own LoRA."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.measuring import Figure, Turns, peak_kib, progress, ratio, rounded

WAYS = ("all weights", "adapter", "adapter and term", "TRL")
"""Those with an adapter have the default one; TRL's is its own trainer with the same."""
QUESTION = "How do I bake a loaf of bread that stays fresh for a week?"
ANSWER = "Let the dough rest for a night, and keep the loaf in a cloth."


@dataclass(frozen=True)
class Size:
    """The model, the batch, and how often it is measured."""

    layers: int
    hidden: int
    vocabulary: int
    rows: int
    steps: int
    rounds: int


FULL = Size(layers=30, hidden=576, vocabulary=49_152, rows=2, steps=4, rounds=1)
"""The shape of SmolLM2-135M, and little in a batch, so that the weights decide the memory."""
QUICK = Size(layers=2, hidden=64, vocabulary=2_000, rows=2, steps=3, rounds=1)


@dataclass(frozen=True)
class Measured:
    """One training."""

    added: int
    """KiB of its peak above what the process had with all libraries, before there was a model."""
    peak: int
    """KiB of its peak."""
    seconds: float
    """Of a step; the median without the first one."""


def run(*, quick: bool) -> Iterator[Figure]:
    """Each way in a process of its own, whose peak is its own."""
    size = QUICK if quick else FULL
    found: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for number in range(size.rounds):
        for way in WAYS:
            with get_context("spawn").Pool(1) as pool:
                found[way].append(pool.apply(_trained, (way, size)))
        progress(f"  round {number + 1} of {size.rounds}")
    facts: dict[str, Any] = {**asdict(size), "threads": torch.get_num_threads()}
    full, adapted = (min(one.added for one in found[way]) for way in ("all weights", "adapter"))
    value = rounded(adapted / full)
    detail = {
        "means": "peak memory added by training an adapter / by training all weights",
        "min": value,
        "max": value,
        **{f"MiB added, {way}": round(min(one.added for one in found[way]) / 1024) for way in WAYS},
        **{f"MiB in all, {way}": round(min(one.peak for one in found[way]) / 1024) for way in WAYS},
        **facts,
    }
    yield Figure("adapters", "peak memory", value, "ratio", detail)
    turns = {way: Turns(*[[one.seconds for one in found[way]]] * 2) for way in WAYS}
    for name, above, below in (
        ("step beside TRL's", "adapter", "TRL"),
        ("step with the term", "adapter and term", "adapter"),
        ("step beside all weights", "adapter", "all weights"),
    ):
        yield ratio("adapters", name, f"step, {above} / step, {below}", turns[above], turns[below], **facts)


def _trained(way: str, size: Size) -> Measured:
    from transformers import AutoTokenizer, TrainerCallback

    from mlc.models.loading import Policy
    from mlc.models.sources import resolve_model
    from mlc.shipped import shipped_data
    from mlc.training.align import align
    from mlc.training.settings import AlignSettings
    from tests.benchmarks.models import random_llama

    weight = 1.0 if way == "adapter and term" else 0.0
    settings = AlignSettings.model_validate(
        {
            "steps": size.steps,
            "batch_size": size.rows,
            "adapter": "none" if way == "all weights" else "lora",
            "consistency": {"weight": weight},
        }
    )
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"))
    row = {"prompt": QUESTION, "chosen": ANSWER, "variants": [QUESTION, f"{QUESTION} {ANSWER}"]}
    rows = [row | {"prompt": f"{number} {QUESTION}"} for number in range(size.rows)]
    before = peak_kib()
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    policy = Policy(model, tokenizer, resolve_model("shipped:tiny"))
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        if way == "TRL":
            _train_as_trl(policy, rows, settings, Path(folder), Clock())
        else:
            align(
                policy,
                rows,
                settings,
                seed=0,
                folder=Path(folder),
                on_step=lambda step, figures: times.append(time.perf_counter()),
            )
    steps = [after - start for start, after in pairwise(times)]
    return Measured(peak_kib() - before, peak_kib(), statistics.median(steps))


def _train_as_trl(policy: Any, rows: list[dict[str, Any]], settings: Any, folder: Path, clock: Any) -> None:
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from mlc.training.adapters import lora_config
    from mlc.training.align import _options, build_dataset

    trainer = SFTTrainer(
        model=policy.model,
        args=SFTConfig(**_options(policy.model.device, settings, 0, folder)),
        train_dataset=build_dataset(policy, rows, settings),
        processing_class=policy.tokenizer,
        peft_config=lora_config(settings.adapter, policy.model),
        callbacks=[clock],
    )
    # Standard output is for figures.
    trainer.remove_callback(PrinterCallback)
    trainer.train()
