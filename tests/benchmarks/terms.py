"""What each term over translations adds to a step of fine-tuning, and what one pass for all of them saves."""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from mlc.shipped import shipped_data
from mlc.training import AnswerConfig, ConsistencyConfig, DecisionConfig, LeanSFTTrainer, Terms, TranslationTerms
from mlc.training.variants import VariantBatch, Variants, batch_variants
from tests.benchmarks import sft
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_prompt, random_tokens

STATES = ConsistencyConfig.model_validate({"pool": "last"})
DECISION, ANSWER = DecisionConfig(weight=0.1), AnswerConfig(weight=1.0)
OFF = Terms().consistency
WAYS = {
    "consistency": Terms(STATES),
    "decision": Terms(OFF, DECISION),
    "answer": Terms(OFF, answer=ANSWER),
    "all": Terms(STATES, DECISION, ANSWER),
}


@dataclass(frozen=True)
class Size:
    """The translations, beside the batch of the benchmark ``sft``; and how often it is measured."""

    step: sft.Size
    prompts: int
    languages: int
    rounds: int


FULL = Size(sft.FULL, prompts=2, languages=5, rounds=3)
"""Two prompts of each step in four other languages."""
QUICK = Size(sft.QUICK, prompts=2, languages=3, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Forward and backward of the carrier's step and of each term; and of all terms in one pass and in three."""
    size = QUICK if quick else FULL
    step = size.step
    model = random_llama(layers=step.layers, hidden=step.hidden, vocabulary=step.vocabulary)
    trainer, batch, variants = sft._trainer(model), sft._batch(step), _variants(size)
    tokenizer = AutoTokenizer.from_pretrained(shipped_data("tiny"))
    terms = {
        name: TranslationTerms(each, model, size.languages, tokenizer=tokenizer, chat=False)
        for name, each in WAYS.items()
    }

    def carrier() -> Tensor:
        loss: Tensor = LeanSFTTrainer.compute_loss(trainer, model, dict(batch))
        return loss

    def term(name: str) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            output = terms[name](model, variants)
            assert output is not None
            return output.loss

        return loss

    def apart() -> Tensor:
        return torch.stack([term(name)() for name in WAYS if name != "all"]).sum()

    losses: dict[str, Callable[[], Tensor]] = {
        "carrier": carrier,
        **{name: term(name) for name in WAYS},
        "apart": apart,
    }
    require_agreement("sums of the terms", abs(float((term("all")() - apart()).detach())), 1e-3)
    works = {name: _with_backward(model, loss) for name, loss in losses.items()}
    operations = {name: _operations(loss) for name, loss in losses.items()}
    times = dict(zip(works, alternate([*works.values()], rounds=size.rounds), strict=True))
    facts: dict[str, Any] = {**asdict(size), "threads": torch.get_num_threads()}
    for name in WAYS:
        floor = round(operations[name] / operations["carrier"], 3)
        means = "forward and backward of the term / of the carrier's step; floor: the same ratio of operations"
        yield ratio("terms", f"{name} / step", means, times[name], times["carrier"], floor=floor, **facts)
    floor = round(operations["apart"] / operations["all"], 3)
    means = "the three terms in passes of their own / in one pass"
    yield ratio("terms", "apart / together", means, times["apart"], times["all"], floor=floor, **facts)


def _variants(size: Size) -> VariantBatch:
    generator = random.Random(1)
    step = size.step
    template = random_tokens(generator, step.template_tokens, step.template_tokens, step.vocabulary)

    def prompt() -> Any:
        own = random_prompt(generator, *step.prompt_tokens, step.vocabulary)
        return type(own)((*template, *own.input_ids), (*(False for _ in template), *own.content))

    made = [
        Variants(
            tuple(prompt() for _ in range(size.languages)),
            harmful=number % 2 == 0,
            answer=random_tokens(generator, ANSWER.tokens, ANSWER.tokens, step.vocabulary),
        )
        for number in range(size.prompts)
    ]
    batch = batch_variants(made, sft.PAD)
    assert batch is not None
    return batch


def _with_backward(model: Any, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def _operations(loss: Callable[[], Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())
