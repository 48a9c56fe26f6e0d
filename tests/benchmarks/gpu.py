"""A DPO step on a GPU at the shape of a model in use, with and without the term; ``--quick`` shows that it runs.

Weights and tokens are random. Without a GPU there is nothing to measure, and nothing is printed.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mlc.training import ConsistencyConfig
from tests.benchmarks.measuring import Figure, progress
from tests.benchmarks.models import dpo_trainer, preference_batch


@dataclass(frozen=True)
class Size:
    """The shape of a Qwen2 model, the batch, and how often it is measured."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int
    prompts: int
    languages: int
    prompt_tokens: int
    response_tokens: int
    rounds: int


QWEN_7B = Size(28, 3584, 18_944, 28, 4, 152_064, 8, 10, 64, 256, rounds=7)
QUICK = Size(4, 64, 128, 4, 2, 500, 2, 6, 12, 16, rounds=2)


def run(*, quick: bool) -> Iterator[Figure]:
    """Time, tokens, share of the peak rate of matrix products, and memory of a step."""
    if not torch.cuda.is_available() and not quick:
        progress("  no GPU here: nothing to measure")
        return
    size = QUICK if quick else QWEN_7B
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = _step(size, device)
    plain, with_term = (_seconds(lambda on=on: step(on), size.rounds, device) for on in (False, True))
    peaks = [_peak_gib(lambda on=on: step(on), device) for on in (False, True)]
    work = [_arithmetic(lambda on=on: step(on)) for on in (False, True)]
    rate = _matrix_rate(device, 64 if quick else 8192)
    tokens = 2 * size.prompts * (size.prompt_tokens + size.response_tokens)
    detail: dict[str, Any] = {
        "means": "DPO step with the term / DPO step",
        "min": (value := round(with_term / plain, 4)),
        "max": value,
        "seconds": [round(plain, 4), round(with_term, 4)],
        "tokens_per_second_of_the_pairs": [round(tokens / plain), round(tokens / with_term)],
        "share_of_matrix_rate": [round(f / s / rate, 3) for f, s in zip(work, (plain, with_term), strict=True)],
        "peak_gib": [round(peak, 2) for peak in peaks],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "dtype": "bfloat16",
        **asdict(size),
    }
    yield Figure("gpu", "time of a DPO step", value, "ratio", detail)


def _step(size: Size, device: str) -> Callable[[bool], None]:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )

    def random_model() -> Any:
        with torch.device(device):
            return Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)

    model, reference = random_model(), random_model()
    term = ConsistencyConfig.model_validate({})
    trainer = dpo_trainer(model, reference, size.languages, term, on_cpu=device == "cpu")
    batch = preference_batch(size, device)

    def step(on: bool) -> None:
        model.zero_grad(set_to_none=True)
        trainer._variants = list(batch.variants) if on else None
        trainer.compute_loss(model, dict(batch.inputs)).backward()

    return step


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], None], rounds: int, device: str) -> float:
    times = []
    for _ in range(rounds + 2):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    # The first two choose kernels and reserve memory.
    return sorted(times[2:])[rounds // 2]


def _peak_gib(work: Callable[[], None], device: str) -> float:
    if device != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 2**30


def _arithmetic(work: Callable[[], None]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _matrix_rate(device: str, size: int) -> float:
    """Floating-point operations a second of one large product in bfloat16."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / _seconds(lambda: torch.mm(left, left), 10, device)
