"""Answers from a model behind the gate that stands in its checkpoint."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast

import torch

from mlc.evaluation.engines.protocol import Completion, Prompt
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.gating.gate import GATE_FILE, PromptGate
from mlc.gating.prompt_translation import PromptTranslator
from mlc.models.loading import Policy
from mlc.shapes.history import Prompt as Asked
from mlc.stopping import ShouldStop, never
from mlc.store.hashing import digest_data, digest_file


class GatedEngine:
    """Refuses what the gate refuses, as a version that is registered with it does, and lets the model answer the rest.

    Args:
        engine: The model without its gate.
        gate: The gate.
        translator: For a gate that reads translations.
        digest: Of the gate's file.
    """

    def __init__(
        self, engine: TransformersEngine, gate: PromptGate, translator: PromptTranslator | None, digest: str
    ) -> None:
        self.engine = engine
        self.gate = gate
        self._translator = translator
        self._digest = digest

    @property
    def policy(self) -> Policy:
        """The model itself."""
        return self.engine.policy

    @property
    def identity(self) -> str:
        return digest_data({"engine": self.engine.identity, "gate": self._digest, "translator": self.gate.translator})

    def in_language(self, language: str) -> "GatedEngine":
        """See :func:`mlc.evaluation.engines.protocol.in_language`."""
        return GatedEngine(self.engine.in_language(language), self.gate, self._translator, self._digest)

    def answer(
        self, prompts: Sequence[Prompt], *, answered: Collection[int] = (), should_stop: ShouldStop = never
    ) -> Iterator[Completion]:
        """See :class:`mlc.evaluation.engines.protocol.AnswerEngine`."""
        asked = {place: cast(Asked, prompt) for place, prompt in enumerate(prompts) if place not in answered}
        margins = self.gate.margins(
            self.policy, list(asked.values()), translator=self._translator, should_stop=should_stop
        )
        refused = [place for place, margin in zip(asked, margins, strict=True) if margin > 0]
        for place in refused:
            yield Completion(place, self.gate.refusal(asked[place]), "stop", None, 0)
        yield from self.engine.answer(prompts, answered={*answered, *refused}, should_stop=should_stop)


def behind_its_gate(engine: TransformersEngine) -> "TransformersEngine | GatedEngine":
    """The engine behind the gate that stands in the folder of its checkpoint; the engine itself where none does.

    Args:
        engine: Of a policy.
    """
    source = engine.policy.source
    file = Path(source.target) / GATE_FILE
    if source.kind != "folder" or not file.is_file():
        return engine
    gate = PromptGate.load(file.parent)
    # The type that it was fitted in, as it is served: in another one its margins would be a little different.
    engine.policy.model.to(getattr(torch, gate.dtype))
    translator = gate.load_translator(file.parent, engine.policy.model.device)
    return GatedEngine(engine, gate, translator, digest_file(file))
