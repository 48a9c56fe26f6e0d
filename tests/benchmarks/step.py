"""What the consistency term adds to an English training step, and what it would add the straightforward way."""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mlc.losses import consistency_loss
from mlc.models.prompts import PromptBatch
from mlc.models.states import layer_index
from mlc.training.settings import ConsistencySettings
from mlc.training.term import ConsistencyTerm
from mlc.training.trainer import answer_loss
from mlc.training.variants import AlignmentCollator, Example, VariantBatch
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_prompt, random_tokens
from tests.benchmarks.states import full_pass_states

PAD = 0


@dataclass(frozen=True)
class Size:
    """The model, the batch (tokens as shortest and longest), and how often they are measured."""

    layers: int
    hidden: int
    vocabulary: int
    batch: int
    variant_prompts: int
    languages: int
    prompt_tokens: tuple[int, int]
    variant_tokens: tuple[int, int]
    answer_tokens: tuple[int, int]
    rounds: int


FULL = Size(
    layers=4,
    hidden=512,
    vocabulary=32_000,
    batch=8,
    variant_prompts=4,
    languages=10,
    prompt_tokens=(20, 40),
    variant_tokens=(20, 60),
    answer_tokens=(48, 96),
    rounds=7,
)
QUICK = Size(
    layers=2,
    hidden=64,
    vocabulary=500,
    batch=4,
    variant_prompts=4,
    languages=12,
    prompt_tokens=(4, 6),
    variant_tokens=(20, 24),
    answer_tokens=(24, 28),
    rounds=9,
)
"""The term outweighs the English step here, so that noise does not turn its share negative."""


def run(*, quick: bool) -> Iterator[Figure]:
    """The defaults of the consistency term: cosine form, half depth, centred.

    Whole steps are timed and subtracted: the term's passes timed alone come out too cheap, because in a step both
    graphs and both gradients are in memory at once.
    """
    size = QUICK if quick else FULL
    model = random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    settings = ConsistencySettings.model_validate({})
    term = ConsistencyTerm(settings, size.hidden, size.languages)
    inputs = AlignmentCollator(PAD, size.variant_prompts)(_examples(size))
    variants: VariantBatch = inputs.pop("variants")
    longest = inputs["input_ids"].shape[1]

    def ours() -> Tensor:
        loss: Tensor = term(model, variants).loss
        return loss

    def straightforward() -> Tensor:
        return straightforward_loss(model, term, variants, longest)

    difference = float((ours() - straightforward()).detach().abs())
    require_agreement("values of the term", difference, 1e-4)
    steps = [training_step(model, inputs, auxiliary) for auxiliary in (None, ours, straightforward)]
    for step in steps:
        step()
    plain, own, other = alternate(steps, rounds=size.rounds)
    facts: dict[str, Any] = {
        **asdict(size),
        "english_shape": list(inputs["input_ids"].shape),
        "variants_shape": list(variants.prompts.input_ids.shape),
        "layer": settings.layer,
        "largest_difference": difference,
        "threads": torch.get_num_threads(),
    }
    means = "(step with the term - English step) / English step"
    ways = f"{means}; early exit, variants padded among themselves"
    yield ratio("step", "added by the term", ways, own, plain, quotient=_added, **facts)
    ways = f"{means}; all layers with head, variants padded to the longest prompt with answer"
    yield ratio("step", "added the straightforward way", ways, other, plain, quotient=_added, **facts)
    means = "step with the term the straightforward way / step with the term"
    yield ratio("step", "speed-up of the step", means, other, own, **facts)


def _added(longer: float, shorter: float) -> float:
    return (longer - shorter) / shorter


def _examples(size: Size) -> list[Example]:
    generator = random.Random(0)

    def example() -> Example:
        prompt = random_prompt(generator, *size.prompt_tokens, size.vocabulary)
        others = [random_prompt(generator, *size.variant_tokens, size.vocabulary) for _ in range(size.languages - 1)]
        return Example(prompt, random_tokens(generator, *size.answer_tokens, size.vocabulary), (prompt, *others))

    return [example() for _ in range(size.batch)]


def training_step(model: Any, inputs: dict[str, Tensor], auxiliary: Callable[[], Tensor] | None) -> Callable[[], None]:
    """One step: answer loss and what is added to it, backward, clipping, AdamW.

    Args:
        model: Model to train.
        inputs: ``input_ids``, ``attention_mask`` and ``labels``.
        auxiliary: Loss beside the answer loss; None for the plain English step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        loss = answer_loss(model, **inputs)
        if auxiliary:
            loss = loss + auxiliary()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def straightforward_loss(model: Any, term: ConsistencyTerm, variants: VariantBatch, longest: int) -> Tensor:
    """The term's value by the way that first comes to mind: the full model over variants padded like the answers.

    Args:
        model: Policy.
        term: Whose settings and centring are used.
        variants: Prompts that exist in every language.
        longest: Tokens to pad to.
    """
    settings = term.settings
    states = full_pass_states(
        model, _widened(variants.prompts, longest), layer_index(settings.layer, len(model.model.layers))
    )
    z = term.head(term.centering(states.reshape(*variants.mask.shape, -1), variants.mask))
    return consistency_loss(z, form=settings.form, anchor=settings.anchor, mask=variants.mask).loss.mean()


def _widened(prompts: PromptBatch, longest: int) -> PromptBatch:
    missing = (longest - prompts.input_ids.shape[1], 0)
    pad = torch.nn.functional.pad
    return PromptBatch(
        pad(prompts.input_ids, missing, value=PAD),
        pad(prompts.attention_mask, missing),
        pad(prompts.content_mask, missing),
    )
