"""What the consistency term adds to a DPO step, against the straightforward way, in time, arithmetic and memory.

The straightforward way forwards every variant through all layers and the head, through the reference too, padded to
the longest response, and keeps every hidden state (../shared/methods.md, section 1).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from operator import sub
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mlc.losses import consistency_loss
from mlc.models.bounds import layer_index
from mlc.models.prompts import pad_prompts
from mlc.training import ConsistencyConfig
from tests.benchmarks.measuring import Figure, Turns, alternate, ratio, require_agreement
from tests.benchmarks.models import dpo_trainer, preference_batch, random_llama

PAD = 0
LAYER = 0.5
CONFIG = ConsistencyConfig.model_validate({"form": "released", "layer": LAYER, "dim": 512})


@dataclass(frozen=True)
class Size:
    """The model, the batch, and how often it is measured."""

    layers: int
    hidden: int
    vocabulary: int
    prompts: int
    languages: int
    prompt_tokens: int
    response_tokens: int
    rounds: int


FULL = (
    Size(
        layers=4,
        hidden=512,
        vocabulary=32_000,
        prompts=2,
        languages=10,
        prompt_tokens=32,
        response_tokens=128,
        rounds=7,
    ),
    Size(
        layers=4, hidden=512, vocabulary=32_000, prompts=2, languages=10, prompt_tokens=64, response_tokens=64, rounds=7
    ),
)
QUICK = (
    Size(layers=4, hidden=64, vocabulary=500, prompts=4, languages=12, prompt_tokens=24, response_tokens=8, rounds=5),
)

Step = Callable[[], Tensor]


def run(*, quick: bool) -> Iterator[Figure]:
    """Time and arithmetic for prompts shorter than responses and for prompts as long; memory for the first."""
    sizes = QUICK if quick else FULL
    for size in sizes:
        yield from _times(size)
    yield _memory(sizes[0])


def _times(size: Size) -> Iterator[Figure]:
    bench = Bench(size)
    own, other = float(bench.term().detach()), float(bench.straightforward().detach())
    require_agreement("values of the term", abs(own - other), 1e-4)
    steps = [_with_backward(bench, way) for way in (None, bench.term, bench.straightforward)]
    for step in steps:
        step()
    plain, ours, theirs = alternate(steps, rounds=size.rounds)
    floor = bench.arithmetic(bench.term) / bench.arithmetic(bench.straightforward)
    lengths = f"prompts of {size.prompt_tokens}, responses of {size.response_tokens} tokens"
    facts: dict[str, Any] = {**asdict(size), "threads": torch.get_num_threads()}
    means = "(DPO step with the term - DPO step) / (the same, the straightforward way)"
    figure = ratio("dpo", f"time added, {lengths}", means, _less(ours, plain), _less(theirs, plain), **facts)
    yield figure
    means = "time added / the same ratio of floating-point operations"
    over = ratio(
        "dpo",
        f"time added over its floor, {lengths}",
        means,
        _less(ours, plain),
        _less(theirs, plain),
        quotient=lambda more, most: more / most / floor,
        floor=round(floor, 4),
        **facts,
    )
    yield over
    means = "(DPO step with the term - DPO step) / DPO step"
    yield ratio("dpo", f"share of the step, {lengths}", means, ours, plain, quotient=_more, **facts)
    small = loss_alone(size)
    loss, step = alternate([small, steps[0]], rounds=size.rounds)
    means = "forward and backward of the loss on its representations / DPO step"
    yield ratio("dpo", f"the loss itself in the step, {lengths}", means, loss, step, **facts)


def _less(turns: Turns, taken: Turns) -> Turns:
    """What is left of each round when the work of another is taken away."""
    return Turns([*map(sub, turns.wall, taken.wall)], [*map(sub, turns.cpu, taken.cpu)])


def _more(longer: float, shorter: float) -> float:
    return (longer - shorter) / shorter


def _with_backward(bench: "Bench", way: Step | None) -> Callable[[], None]:
    def step() -> None:
        bench.model.zero_grad(set_to_none=True)
        loss = bench.carrier()
        (loss if way is None else loss + way()).backward()

    return step


def loss_alone(size: Size) -> Callable[[], None]:
    """Forward and backward of the loss on [prompts, languages, 512]."""
    z = torch.randn(size.prompts, size.languages, 512, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def step() -> None:
        torch.autograd.grad(consistency_loss(z).loss.mean(), z)

    return step


class Bench:
    """A DPO trainer of TRL with the term, and one batch.

    Args:
        size: The sizes.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.model, self.reference = (
            random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary) for _ in range(2)
        )
        self.trainer = dpo_trainer(self.model, self.reference, size.languages, CONFIG, on_cpu=True)
        batch = preference_batch(size)
        self.batch, self.variants = batch.inputs, batch.variants

    def carrier(self) -> Tensor:
        """The DPO loss alone."""
        loss: Tensor = self.trainer.compute_loss(self.model, dict(self.batch))
        return loss

    def term(self) -> Tensor:
        """The term as the trainer computes it."""
        loss: Tensor | None = self.trainer._computed_terms(self.variants)
        assert loss is not None
        return loss

    def straightforward(self) -> Tensor:
        """The term by the way that first comes to mind."""
        wide = max(self.size.prompt_tokens, self.size.response_tokens)
        batch = pad_prompts([row for prompt in self.variants for row in prompt.prompts if row], PAD, side="right")
        missing = (0, wide - batch.input_ids.shape[1])
        inputs = {
            "input_ids": torch.nn.functional.pad(batch.input_ids, missing, value=PAD),
            "attention_mask": torch.nn.functional.pad(batch.attention_mask, missing),
        }
        with torch.no_grad():
            self.reference(**inputs, use_cache=False)
        states = self.model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
        last = inputs["attention_mask"].sum(dim=1) - 1
        chosen = states[layer_index(LAYER, self.size.layers)][torch.arange(len(last)), last]
        z = self.trainer.term.head(chosen.reshape(self.size.prompts, self.size.languages, -1))
        return consistency_loss(z, form=CONFIG.form).loss.mean()

    def arithmetic(self, way: Step) -> int:
        """Floating-point operations of forward and backward, as torch counts them."""
        with FlopCounterMode(display=False) as counter:
            way().backward()
        return int(counter.get_total_flops())


def _memory(size: Size) -> Figure:
    bench = Bench(size)
    ways = {"DPO step": None, "with the term": bench.term, "the straightforward way": bench.straightforward}
    peaks = {name: peak_bytes(_with_backward(bench, way)) for name, way in ways.items()}
    plain, ours, theirs = peaks.values()
    value = round((ours - plain) / (theirs - plain), 3)
    detail = {
        "means": "what the term adds to the peak of allocations in a DPO step / the same, the straightforward way",
        "min": value,
        "max": value,
        "whole_step": round(ours / theirs, 3),
        **{f"MiB, {name}": round(peak / 2**20, 1) for name, peak in peaks.items()},
        **asdict(size),
    }
    return Figure("dpo", "peak memory added", value, "ratio", detail)


def peak_bytes(work: Callable[[], object]) -> int:
    """Largest sum of what a work allocates on the CPU, above what there was before it."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    # The public list of events holds only the moves outside of any operator.
    moves = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(moves, key=lambda event: event.start_ns()))
    return int(max(held))
