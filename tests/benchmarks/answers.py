"""Answers in batches, against one prompt after the other."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.protocol import Completion
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.models.loading import Policy
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement
from tests.benchmarks.models import random_llama, random_policy
from tests.benchmarks.scoring import _texts


@dataclass(frozen=True)
class Size:
    """The model, the prompts, and how often they are measured."""

    layers: int
    hidden: int
    vocabulary: int
    prompts: int
    batch_size: int
    answer_tokens: int
    rounds: int


FULL = Size(layers=6, hidden=256, vocabulary=8_000, prompts=40, batch_size=20, answer_tokens=32, rounds=3)
QUICK = Size(layers=2, hidden=64, vocabulary=1_000, prompts=4, batch_size=4, answer_tokens=4, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """Greedy answers to quickstart prompts, both ways, and how much of the time is the model's."""
    size = QUICK if quick else FULL
    policy = random_policy(random_llama(layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary))
    texts = _texts(size.prompts)

    def together() -> list[Completion]:
        engine = TransformersEngine(policy, max_new_tokens=size.answer_tokens, batch_size=size.batch_size)
        return answer_all(engine, texts)

    def alone() -> list[Completion]:
        engine = TransformersEngine(policy, max_new_tokens=size.answer_tokens, batch_size=1)
        return answer_all(engine, texts)

    ours, theirs = together(), alone()
    require_agreement("answers", float(sum(a.text != b.text for a, b in zip(ours, theirs, strict=True))), 0)
    own, other = alternate([together, alone], rounds=size.rounds)
    facts = {
        **asdict(size),
        "tokens": sum(completion.answer_tokens or 0 for completion in ours),
        "share_in_the_model": _share_in_the_model(policy, together),
        "threads": torch.get_num_threads(),
    }
    yield ratio("answers", "speed-up", "one after the other / batches", other, own, **facts)


def _share_in_the_model(policy: Policy, work: Callable[[], object]) -> float:
    """Share of the time of a work that is spent in forward passes."""
    spent, forward = 0.0, policy.model.forward

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal spent
        started = time.process_time()
        try:
            return forward(*arguments, **named)
        finally:
            spent += time.process_time() - started

    policy.model.forward = timed
    started = time.process_time()
    try:
        work()
        return round(spent / (time.process_time() - started), 3)
    finally:
        del policy.model.forward
