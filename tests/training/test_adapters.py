"""Training with an adapter: what moves, what TRL would do, what is saved, and that a stop changes nothing."""

import json
import logging
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from pydantic import ValidationError
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from mlc.models.adapters import name_base
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import artifact_model, resolve_model
from mlc.shipped import shipped_data
from mlc.stopping import Stopped
from mlc.training.align import _options, align, build_dataset
from mlc.training.kl import KLTrainer
from mlc.training.prefix import begun_as_asked
from mlc.training.settings import AlignSettings
from mlc.training.sft import LeanSFTTrainer
from tests.covering import chosen
from tests.training.runs import make_rows, same, term, train
from tests.training.test_align import settings

CARRIERS = ["sft", "kl", "dpo", "simpo", "orpo"]
OFF = {"weight": 0}
SIMPO = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.5, "beta": 2.0, "remove_unused_columns": False}
OF_TRL = {
    "sft": (LeanSFTTrainer, SFTConfig, {}),
    "kl": (KLTrainer, SFTConfig, {}),
    "dpo": (DPOTrainer, DPOConfig, {"beta": 0.1}),
    "simpo": (CPOTrainer, CPOConfig, SIMPO),
    "orpo": (ORPOTrainer, ORPOConfig, {"beta": 0.1, "remove_unused_columns": False}),
}


@pytest.fixture
def trained(load_tiny, tmp_path):
    def run(alignment, rows=None, **options):
        policy = options.pop("policy", None) or load_tiny()
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        log = align(policy, rows or make_rows(6), alignment, seed=0, folder=folder, **options)
        return log, policy

    return run


def adapter_of(policy):
    return {name: tensor for name, tensor in policy.model.state_dict().items() if "lora_" in name}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_weight_zero_is_the_run_of_trl_to_the_bit(load_tiny, trained, tmp_path, carrier):
    alignment = settings(carrier, adapter="lora", consistency=OFF)
    log, policy = trained(alignment)
    kind, arguments, own = OF_TRL[carrier]
    plain = load_tiny()
    dataset = build_dataset(plain, make_rows(6), alignment)
    more = {"teacher_model": load_tiny().model} if carrier == "kl" else {}
    trainer = kind(
        model=plain.model,
        args=arguments(**_options(plain.model.device, alignment, 0, tmp_path / "trl"), **own),
        train_dataset=dataset,
        processing_class=plain.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        **more,
    )
    begun_as_asked(trainer, dataset) if carrier in ("simpo", "orpo") else trainer
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in log] == theirs
    assert same(policy.model.state_dict(), trainer.model.state_dict())
    assert len({*theirs}) > 1


def test_weight_zero_beside_trls_own_sft(tmp_path):
    """The carrier of the flow computes less on a CPU, so that it is the same but for rounding."""
    more = {"peft_config": LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")}
    plain, joined, lean = (
        train(carrier, tmp_path / name, consistency, more=dict(more))
        for name, carrier, consistency in (
            ("plain", "sft", None),
            ("joined", "sft", term(**OFF)),
            ("lean", "lean_sft", term(**OFF)),
        )
    )
    assert joined.series() == plain.series()
    assert same(joined.weights, plain.weights)
    assert any("lora_" in name for name in joined.weights)
    assert lean.series() == pytest.approx(plain.series(), rel=1e-5)


def test_the_term_moves_the_adapter_below_its_layer_and_none_above(trained):
    # In the first step the second matrices are zero, so that only they have a gradient, and layers do not mix yet.
    one = {"steps": 1, "warmup_share": 0.0, "max_gradient_norm": 1e9, "adapter": "lora", "batch_size": 6}
    _, alone = trained(settings(consistency=OFF, **one))
    _, both = trained(settings(consistency={"layer": 2, "weight": 50.0}, **one))
    differs = {name for name, tensor in adapter_of(both).items() if not torch.equal(tensor, adapter_of(alone)[name])}
    named = "base_model.model.model.layers.{}.mlp.down_proj.lora_B.default.weight"
    assert named.format(1) in differs
    assert not any(f".layers.{above}." in name for name in differs for above in (2, 3))
    assert float(adapter_of(both)[named.format(3)].abs().max()) > 0


def test_the_weights_of_the_policy_stay_as_they_are(load_tiny, trained):
    _, policy = trained(settings(adapter="lora"))
    start = load_tiny().model.state_dict()
    left = policy.model.unload().state_dict()
    assert same(left, start)


def test_layers_may_be_counted_from_the_end(trained):
    (_, first), (_, second) = (trained(settings(steps=1, adapter={"layers": layers})) for layers in ([-1], [3]))
    assert same(adapter_of(first), adapter_of(second))
    assert {name.split(".layers.")[1][0] for name in adapter_of(first)} == {"3"}


@pytest.mark.parametrize(
    ("layers", "layer", "warned"), [((2, 3), 2, True), ((1, 3), 2, False), (None, 0, True), (None, 0.5, False)]
)
def test_a_term_that_reaches_no_adapter_is_told_of(trained, caplog, layers, layer, warned):
    with caplog.at_level(logging.WARNING):
        trained(settings(steps=1, adapter={"layers": layers}, consistency={"layer": layer}))
    assert ("no layer with an adapter lies below" in caplog.text) is warned


def test_all_terms_reach_it(trained):
    alignment = settings(adapter={"use_dora": True, "use_rslora": True}, gradient_checkpointing=True)
    log, _ = trained(alignment.with_terms("consistency", "decision", "answer"))
    assert {"consistency_loss", "decision_loss", "answer_loss"} <= log[-1].keys()


def test_without_a_teacher_the_policy_is_its_own(load_tiny, trained):
    alignment = settings("kl", adapter="lora", consistency={"weight": 0.5})
    own, first = trained(alignment)
    given, second = trained(alignment, teacher=load_tiny())
    assert own == given
    assert same(adapter_of(first), adapter_of(second))


@pytest.mark.parametrize("carrier", chosen(CARRIERS, "sft", "dpo"))
def test_resumed_is_uninterrupted(trained, tmp_path, carrier):
    alignment = settings(carrier, steps=4, adapter={"dropout": 0.1}, checkpoint_minutes=0, consistency={"dim": 8})
    whole, policy = trained(alignment)
    steps = []
    with pytest.raises(Stopped):
        trained(
            alignment,
            checkpoints=tmp_path / "kept",
            on_step=lambda step, figures: steps.append(step),
            should_stop=lambda: len(steps) == 2,
        )
    resumed, again = trained(alignment, checkpoints=tmp_path / "kept")
    assert resumed == whole
    assert same(adapter_of(again), adapter_of(policy))


@pytest.fixture
def saved(trained, tmp_path):
    _, policy = trained(settings(steps=4, learning_rate=1e-2, adapter="lora"))
    folder = tmp_path / "saved"
    save_policy(policy, folder, dtype=torch.float32)
    return policy, folder


def test_the_saved_adapter_is_small_and_names_no_place(saved):
    _, folder = saved
    weights = sum(file.stat().st_size for file in Path(shipped_data("tiny")).glob("*.safetensors"))
    assert (folder / "adapter_model.safetensors").stat().st_size < weights
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(config["target_modules"])
    assert not list(folder.glob("model*"))
    assert all(str(shipped_data("tiny")) not in file.read_text() for file in folder.glob("*.json"))


def test_merged_and_adapter_answer_alike(saved):
    policy, folder = saved
    base = resolve_model("shipped:tiny")
    merged = load_policy(artifact_model(folder, "sha", base), device="cpu")
    more = load_policy(artifact_model(folder, "sha", base), device="cpu", trains_adapter=True)
    name_base(folder, base.target, None)
    theirs = AutoPeftModelForCausalLM.from_pretrained(folder)
    by_name = load_policy(resolve_model(str(folder)), device="cpu")
    ids = torch.tensor([policy.tokenizer("How do swallows find south?")["input_ids"]])
    ours = policy.model(ids).logits
    for other in (merged.model, more.model, theirs, by_name.model):
        torch.testing.assert_close(other(ids).logits, ours, atol=1e-5, rtol=1e-5)
        answers = [model.generate(input_ids=ids, max_new_tokens=8, do_sample=False) for model in (other, policy.model)]
        assert torch.equal(*answers)
    assert more.source == base
    assert AutoTokenizer.from_pretrained(folder).chat_template == policy.tokenizer.chat_template
    start = load_policy(base, device="cpu").model(ids).logits
    assert not torch.allclose(start, ours, atol=1e-2)


def test_what_is_merged_is_rounded_as_it_will_be_saved(saved, tmp_path):
    policy, folder = saved
    save_policy(policy, folder, dtype=torch.bfloat16)
    evaluated = load_policy(artifact_model(folder, "sha", resolve_model("shipped:tiny")), device="cpu")
    save_policy(evaluated, tmp_path / "whole", dtype=torch.bfloat16)
    registered = load_policy(resolve_model(str(tmp_path / "whole")), device="cpu")
    assert same(evaluated.model.state_dict(), registered.model.state_dict())
    ids = torch.tensor([policy.tokenizer("How do swallows find south?")["input_ids"]])
    assert torch.equal(evaluated.model(ids).logits, registered.model(ids).logits)


@pytest.mark.parametrize("optim", ["adamw", "adafactor"])
def test_other_optimisers_train(trained, optim):
    log, _ = trained(settings(optim=optim, adapter="lora"))
    usual, _ = trained(settings(adapter="lora"))
    assert log[0]["loss"] == usual[0]["loss"]
    assert log[-1]["loss"] == pytest.approx(usual[-1]["loss"], rel=0.2)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"adapter": "qlora"}, "align.adapter: qlora needs the package bitsandbytes"),
        ({"optim": "paged_adamw_8bit"}, "align.optim: paged_adamw_8bit needs the package bitsandbytes"),
        ({"training_dtype": "float16"}, "float16 is for answering only"),
        ({"adapter": "lorra"}, "kind"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(values, problem, monkeypatch):
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ValidationError, match=problem):
        AlignSettings(**values)


def test_none_is_no_adapter():
    assert AlignSettings(adapter="none") == AlignSettings()


def test_modules_that_are_not_there(trained):
    with pytest.raises(ValueError, match=r"names 'c_attn'; the policy has down_proj, gate_proj"):
        trained(settings(adapter={"target_modules": ["c_attn"]}))
