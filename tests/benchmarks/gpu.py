"""A DPO step on a GPU at the shape of a model in use, with and without the term, and answers; ``--quick`` shows it.

Weights and tokens are random. Without a GPU there is nothing to measure, and nothing is printed.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mlc.training import ConsistencyConfig
from tests.benchmarks.measuring import Figure, progress
from tests.benchmarks.models import dpo_trainer, preference_batch

WAYS: Mapping[str, Mapping[str, Any]] = {
    "all weights": {},
    "LoRA": {"adapter": "lora"},
    "LoRA, checkpointing": {"adapter": "lora", "gradient_checkpointing": True},
}
"""Settings of the alignment, beside DPO in bfloat16."""


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


QWEN_7B = Size(28, 3584, 18_944, 28, 4, 152_064, 8, 10, 64, 256, rounds=5)
QUICK = Size(4, 64, 128, 4, 2, 500, 2, 6, 12, 16, rounds=2)
ROWS = (20, 160)
"""Prompts that are answered together: the default of an evaluation, and what a large card has room for."""
ANSWER_TOKENS = 64


def run(*, quick: bool) -> Iterator[Figure]:
    """Time, tokens, share of the peak rate of matrix products, and memory of a step; then answers."""
    if not torch.cuda.is_available() and not quick:
        progress("  no GPU here: nothing to measure")
        return
    size = QUICK if quick else QWEN_7B
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rate = _matrix_rate(device, 64 if quick else 8192)
    for way, settings in WAYS.items():
        progress(f"  {way}")
        yield _measured_step(way, settings, size, device, rate)
        _forget(device)
    progress("  answers")
    yield _answers(size, device)


def _measured_step(way: str, settings: Mapping[str, Any], size: Size, device: str, rate: float) -> Figure:
    step = _step(size, device, settings)
    plain, with_term = (_seconds(lambda on=on: step(on), size.rounds, device) for on in (False, True))
    peaks = [_peak_gib(lambda on=on: step(on), device) for on in (False, True)]
    work = [_arithmetic(size, settings, on) for on in (False, True)]
    tokens = 2 * size.prompts * (size.prompt_tokens + size.response_tokens)
    detail: dict[str, Any] = {
        "means": "DPO step with the term / DPO step",
        "min": (value := round(with_term / plain, 4)),
        "max": value,
        "seconds": [round(plain, 4), round(with_term, 4)],
        "tokens_per_second_of_the_pairs": [round(tokens / plain), round(tokens / with_term)],
        "share_of_matrix_rate": [round(f / s / rate, 3) for f, s in zip(work, (plain, with_term), strict=True)],
        "peak_gib": [round(peak, 2) for peak in peaks],
        "estimated_gib": [round(_estimated_gib(size, settings, weight), 2) for weight in (0.0, 1.0)],
        "matrix_tflops": round(rate / 1e12),
        **_place(device),
        **asdict(size),
    }
    return Figure("gpu", f"time of a DPO step, {way}", value, "ratio", detail)


def _place(device: str) -> dict[str, str]:
    return {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "dtype": "bfloat16"}


def _configuration(size: Size) -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(
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


def _random_model(size: Size, device: str) -> Any:
    from transformers import Qwen2ForCausalLM

    with torch.device(device):
        return Qwen2ForCausalLM._from_config(_configuration(size), dtype=torch.bfloat16)


def _step(size: Size, device: str, settings: Mapping[str, Any]) -> Callable[[bool], None]:
    model, reference = _random_model(size, device), None
    if "adapter" in settings:
        from peft import get_peft_model

        from mlc.training.adapters import lora_config
        from mlc.training.settings import AlignSettings

        model = get_peft_model(model, lora_config(AlignSettings.model_validate(dict(settings)).adapter, model))
    else:
        reference = _random_model(size, device)
    trainer = dpo_trainer(model, reference, size.languages, ConsistencyConfig(), on_cpu=device == "cpu")
    if "gradient_checkpointing" in settings:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batch = preference_batch(size, device)

    def step(on: bool) -> None:
        model.zero_grad(set_to_none=True)
        trainer._variants = list(batch.variants) if on else None
        trainer.compute_loss(model, dict(batch.inputs)).backward()

    return step


def _estimated_gib(size: Size, settings: Mapping[str, Any], weight: float) -> float:
    """What `mlc plan` says of such a step, without what torch's own count of allocations lacks."""
    from mlc.models.sizes import shape_of
    from mlc.training.memory import GIB, Lengths, Place, training_memory
    from mlc.training.settings import AlignSettings

    shape = shape_of(_configuration(size).to_dict())
    if shape is None:
        raise RuntimeError("the model of the benchmark is of no known family.")
    align = AlignSettings.model_validate(
        {
            "carrier": "dpo",
            "batch_size": size.prompts,
            "training_dtype": "bfloat16",
            "consistency": {"weight": weight},
            **settings,
        }
    )
    lengths = Lengths(size.prompt_tokens, size.response_tokens, size.prompt_tokens)
    memory = training_memory(shape, align, lengths, languages=size.languages - 1, place=Place(gpu=True))
    # A step without an optimiser; the libraries of the card take their own.
    return sum(part for name, part in memory.parts.items() if name not in ("optimiser", "libraries")) / GIB


def _answers(size: Size, device: str) -> Figure:
    from transformers import AutoTokenizer

    from mlc.evaluation.answering import answer_all
    from mlc.evaluation.engines.transformers import TransformersEngine
    from mlc.models.loading import Policy
    from mlc.models.sources import ModelSource
    from mlc.shipped import shipped_data

    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"), local_files_only=True)
    policy = Policy(_random_model(size, device).eval(), tokenizer, ModelSource("random", "folder", "", ""))
    texts = [f"{number} " + " ".join(["bread"] * 20) for number in range(max(ROWS))]

    def tokens_a_second(rows: int) -> float:
        engine = TransformersEngine(policy, max_new_tokens=ANSWER_TOKENS, batch_size=rows)
        answers: list[Any] = []
        seconds = _seconds(lambda: answers.append(answer_all(engine, texts[:rows])), 3, device)
        return sum(answer.answer_tokens for answer in answers[-1]) / seconds

    few, many = (tokens_a_second(rows) for rows in ROWS)
    detail: dict[str, Any] = {
        "means": f"tokens a second of {ROWS[1]} prompts together / of {ROWS[0]}",
        "min": (value := round(many / few, 3)),
        "max": value,
        "tokens_per_second": [round(few), round(many)],
        "answer_tokens": ANSWER_TOKENS,
        **_place(device),
        **asdict(size),
    }
    return Figure("gpu", "answers in larger batches", value, "ratio", detail)


def _forget(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


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


def _arithmetic(size: Size, settings: Mapping[str, Any], on: bool) -> float:
    """Floating-point operations of the products with weights, and of the forward pass of the reference.

    A token takes 2 for each weight that it meets, as many again for its gradient, again for the weight's where that is
    trained, and again where activations are computed a second time.
    """
    query = size.heads * (key := size.hidden // size.heads)
    attention = 2 * size.hidden * query + 2 * size.hidden * size.key_value_heads * key
    layer = attention + 3 * size.hidden * size.intermediate
    passes = 2 + ("adapter" not in settings) + ("gradient_checkpointing" in settings)
    tokens = 2 * size.prompts * (size.prompt_tokens + size.response_tokens)
    answers = 2 * size.prompts * size.response_tokens * size.hidden * size.vocabulary
    pairs = (passes + 1) * tokens * size.layers * layer + 3 * answers
    variants = passes * size.prompts * size.languages * size.prompt_tokens * size.layers // 2 * layer
    return 2 * float(pairs + on * variants)


def _matrix_rate(device: str, size: int) -> float:
    """Floating-point operations a second of one large product in bfloat16."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / _seconds(lambda: torch.mm(left, left), 10, device)
