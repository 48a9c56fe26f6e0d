"""What each term over translations adds to a step of fine-tuning, and what one pass for all of them saves."""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from mlc.gating.fitting import LinearScore
from mlc.losses.feedback import feedback_loss
from mlc.losses.guided import guided_loss
from mlc.losses.reward_gap import reward_gap_loss
from mlc.models.continuations import answer_tokens, continue_prompts
from mlc.models.states import prompt_states
from mlc.shipped import shipped_data
from mlc.training import AnswerConfig, ConsistencyConfig, DecisionConfig, LeanSFTTrainer, Terms, TranslationTerms
from mlc.training.balance import RiskProbe
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

    beside = _on_answers(model, variants, step)
    losses: dict[str, Callable[[], Tensor]] = {
        "carrier": carrier,
        **{name: term(name) for name in WAYS},
        **beside,
        "apart": apart,
    }
    require_agreement("sums of the terms", abs(float((term("all")() - apart()).detach())), 1e-3)
    works = {name: _with_backward(model, loss) for name, loss in losses.items()}
    operations = {name: _operations(loss) for name, loss in losses.items()}
    probe, gate = _risk(model, variants, tokenizer), _gate(model, variants)
    works |= {"risk": probe, "gate": gate}
    operations |= {name: _operations_of(works[name]) for name in ("risk", "gate")}
    times = dict(zip(works, alternate([*works.values()], rounds=size.rounds), strict=True))
    facts: dict[str, Any] = {**asdict(size), "threads": torch.get_num_threads()}
    for name in WAYS:
        floor = round(operations[name] / operations["carrier"], 3)
        means = "forward and backward of the term / of the carrier's step; floor: the same ratio of operations"
        yield ratio("terms", f"{name} / step", means, times[name], times["carrier"], floor=floor, **facts)
    told = {
        **dict.fromkeys(beside, "forward and backward of the loss on as many translations / of the carrier's step"),
        "risk": "one estimate of the languages' risk on as many translations / the carrier's step",
        "gate": "the gate's scores of as many prompts / the carrier's step",
    }
    for name, means in told.items():
        floor = round(operations[name] / operations["carrier"], 3)
        yield ratio(
            "terms",
            f"{name} / step",
            f"{means}; floor: operations",
            times[name],
            times["carrier"],
            floor=floor,
            **facts,
        )
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


def _on_answers(model: Any, variants: VariantBatch, step: sft.Size) -> dict[str, Callable[[], Tensor]]:
    """The losses of methods that read whole answers to translations: MPO, MSD, and feedback."""
    generator = random.Random(2)
    rows = variants.prompts.input_ids.shape[0]
    chosen, rejected = (
        [tuple(random_tokens(generator, *step.answer_tokens, step.vocabulary)) for _ in range(rows)] for _ in range(2)
    )
    good = torch.arange(rows) % 2 == 0
    zeros = torch.zeros(rows)

    def mpo() -> Tensor:
        said = continue_prompts(model, variants.prompts, [chosen, rejected], layer=-1, pool="last")
        scores = said.mean_log_probabilities()
        assert said.states is not None
        loss = reward_gap_loss(scores[:, 0] - scores[:, 1], zeros, said.states, torch.zeros_like(said.states))
        return loss.loss.mean()

    def msd() -> Tensor:
        with torch.no_grad():
            taught, _ = continue_prompts(model, variants.prompts, [chosen]).of(0)
        said, tokens = continue_prompts(model, variants.prompts, [chosen]).of(0)
        return guided_loss(said, taught.detach(), top=20, tokens=tokens, weighted=True).loss

    def feedback() -> Tensor:
        rewards = continue_prompts(model, variants.prompts, [chosen]).mean_log_probabilities()[:, 0]
        with torch.no_grad():
            point = continue_prompts(model, variants.prompts, [rejected]).mean_log_probabilities().mean().clamp(min=0)
        return feedback_loss(rewards, good, point).loss.mean()

    return {"mpo": mpo, "msd": msd, "feedback": feedback}


def _risk(model: Any, variants: VariantBatch, tokenizer: Any) -> Callable[[], None]:
    texts = (*DECISION.refusal_openings, *DECISION.compliance_openings)
    openings = tuple(answer_tokens(tokenizer, text, chat=False) for text in texts)
    probe = RiskProbe((variants,), openings, len(DECISION.refusal_openings))

    def measure() -> None:
        probe.measure(model)

    return measure


def _gate(model: Any, variants: VariantBatch) -> Callable[[], None]:
    score = LinearScore(torch.ones(model.config.hidden_size, dtype=torch.float64), 0.0)
    prompts = variants.prompts

    @torch.no_grad()
    def decide() -> None:
        score.of(prompt_states(model, prompts.input_ids, prompts.attention_mask, layer=0.5))

    return decide


def _operations_of(work: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _with_backward(model: Any, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def _operations(loss: Callable[[], Tensor]) -> int:
    return _operations_of(lambda: loss().backward())
