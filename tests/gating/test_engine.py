"""A model behind the gate in its folder answers as a version that is registered with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.gating.engine import GatedEngine, behind_its_gate
from mlc.gating.gate import PromptGate, fit_gate
from mlc.gating.prompt_translation import TRANSLATOR_FOLDER
from mlc.gating.settings import PromptGateSettings
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.translation.kept import keep_translator
from tests.gating.test_prompt_translation import ENGLISH, LABELS, SPANISH


@pytest.mark.parametrize("reads", ["prompt", "translation"])
def test_it_refuses_what_its_gate_refuses(reads: str, tmp_path: Path) -> None:
    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    settings = PromptGateSettings.model_validate({"reads": reads, "layer": -1, "pool": "last", "false_refusals": None})
    gate = fit_gate(policy, ENGLISH, LABELS, {"spa_Latn": ENGLISH}, settings)
    save_policy(policy, tmp_path, dtype=torch.float32)
    plain = TransformersEngine(load_policy(resolve_model(str(tmp_path)), device="cpu"), max_new_tokens=8)
    assert behind_its_gate(plain) is plain

    gate.save(tmp_path)
    keep_translator(resolve_model("shipped:nano"), tmp_path / TRANSLATOR_FOLDER, "eng_Latn")
    engine = behind_its_gate(plain)
    assert isinstance(engine, GatedEngine)
    assert engine.in_language("spa_Latn").identity == engine.identity != plain.identity
    prompts = [*ENGLISH, *SPANISH]
    margins = gate.margins(policy, prompts, translator=gate.load_translator(tmp_path))
    assert {margin > 0 for margin in margins} == {True, False}
    alone = answer_all(plain, prompts)
    record = tmp_path / "answers.jsonl"
    for _ in range(2):
        given = answer_all(engine, prompts, record=record)
        assert [completion.text for completion in given] == [
            gate.refusal(prompt) if margin > 0 else completion.text
            for prompt, margin, completion in zip(prompts, margins, alone, strict=True)
        ]
    assert len(record.read_text(encoding="utf-8").splitlines()) == len(prompts)

    replace(gate, thresholds=dict.fromkeys(gate.thresholds, -1e9), others=-1e9).save(tmp_path)
    strict = behind_its_gate(plain)
    assert strict.identity != engine.identity
    assert [completion.text for completion in answer_all(strict, prompts)] == [gate.refusal(one) for one in prompts]
    assert PromptGate.load(tmp_path).refusals == gate.refusals
