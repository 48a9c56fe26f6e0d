"""Alignment of encoder-decoders: what the carriers of transformers would do, what the term moves, stops, adapters."""

import logging

import pytest
import torch
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from mlc.models.continuations import answer_tokens
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import artifact_model, resolve_model
from mlc.stopping import Stopped
from mlc.training.align import _options, align, build_encoded_dataset
from mlc.training.kl import Seq2SeqKLTrainer
from mlc.training.settings import AlignSettings
from tests.covering import chosen
from tests.encoders import save_m2m100, save_t5
from tests.training.runs import LANGUAGES, make_rows, same, term, train
from tests.training.test_align import settings

OFF = {"weight": 0}
MODELS = {"t5": save_t5, "m2m_100": save_m2m100}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in MODELS.items()}


@pytest.fixture
def load(folders):
    return lambda name="t5": load_policy(resolve_model(str(folders[name])), device="cpu", encodes=True)


@pytest.fixture
def trained(load, tmp_path):
    def run(alignment, name="t5", rows=None, **options):
        policy = options.pop("policy", None) or load(name)
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        rows = rows or [{**row, "languages": LANGUAGES} for row in make_rows(6)]
        return align(policy, rows, alignment, seed=0, folder=folder, **options), policy

    return run


RUNS = {
    f"{name}, {carrier}, {adapter}": (name, carrier, adapter)
    for name in MODELS
    for carrier in ("sft", "kl")
    for adapter in ("none", "lora")
}


@pytest.mark.parametrize("run", chosen(RUNS, "t5, sft, lora", "m2m_100, kl, none"))
def test_weight_zero_is_the_run_of_transformers_to_the_bit(load, trained, tmp_path, run):
    name, carrier, adapter = RUNS[run]
    alignment = settings(carrier, adapter=adapter, consistency=OFF)
    teacher = load(name) if carrier == "kl" else None
    log, policy = trained(alignment, name, teacher=teacher)
    plain = load(name)
    arguments = _options(plain.model.device, alignment, 0, tmp_path / "plain")
    arguments.pop("max_length")
    if adapter == "lora":
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(0)
        config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=32, target_modules="all-linear")
        plain.model = get_peft_model(plain.model, config)
    kind = Seq2SeqKLTrainer if carrier == "kl" else Seq2SeqTrainer
    trainer = kind(
        model=plain.model,
        args=Seq2SeqTrainingArguments(**arguments),
        train_dataset=build_encoded_dataset(plain, make_rows(6), alignment),
        data_collator=DataCollatorForSeq2Seq(plain.tokenizer, model=plain.model),
        processing_class=plain.tokenizer,
        **({"teacher_model": load(name).model} if carrier == "kl" else {}),
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in log] == theirs
    assert same(policy.model.state_dict(), trainer.model.state_dict())
    assert len({*theirs}) > 1


@pytest.mark.parametrize("carrier", ["sft", "kl"])
def test_a_step_in_batches_is_the_step(load, trained, carrier):
    teacher = load("m2m_100") if carrier == "kl" else None
    one, two = (
        trained(settings(carrier, steps=1, consistency=OFF, **cut), "m2m_100", teacher=teacher)[0][0]["loss"]
        for cut in ({"batch_size": 4}, {"batch_size": 2, "accumulation": 2})
    )
    # Batches of transformers' own loss count alike, whatever they hold.
    assert two == pytest.approx(one, rel=0.2, abs=1e-4)


def test_labels_are_what_an_answer_is_made_to_be(load):
    for name, opening in (("t5", ()), ("m2m_100", ("eng_Latn",))):
        policy = load(name)
        rows = [{**make_rows(1)[0], "prompt_language": "swh_Latn"}]
        row = build_encoded_dataset(policy, rows, settings(consistency=OFF))[0]
        begin = tuple(policy.tokenizer.convert_tokens_to_ids(list(opening)))
        answer = answer_tokens(policy.tokenizer, rows[0]["chosen"])
        assert tuple(row["labels"]) == (*begin, *answer, policy.tokenizer.eos_token_id)
        assert row["input_ids"][-1] == policy.tokenizer.eos_token_id
        assert row["input_ids"][0] == policy.tokenizer.convert_tokens_to_ids("swh_Latn") or not opening


def test_the_term_moves_the_encoder_below_its_layer_and_nothing_else(trained):
    one = {"steps": 1, "warmup_share": 0.0, "max_gradient_norm": 1e9, "batch_size": 6, "adapter": "lora"}
    _, alone = trained(settings(consistency=OFF, **one))
    _, both = trained(settings(consistency={"layer": 1, "weight": 50.0}, **one))
    moved = {
        name
        for (name, first), second in zip(
            alone.model.state_dict().items(), both.model.state_dict().values(), strict=True
        )
        if not torch.equal(first, second)
    }
    assert any("encoder.block.0." in name for name in moved)
    assert all("encoder.block.0." in name for name in moved)


@pytest.mark.parametrize(("layer", "warned"), [(0, True), (1, False)])
def test_a_term_that_reaches_no_adapter_of_the_encoder_is_told_of(trained, caplog, layer, warned):
    with caplog.at_level(logging.WARNING):
        trained(settings(steps=1, adapter={"layers": [0]}, consistency={"layer": layer}))
    assert ("no layer with an adapter lies below" in caplog.text) is warned


@pytest.mark.parametrize("adapter", chosen(["none", "lora"], "lora"))
def test_resumed_is_uninterrupted(trained, tmp_path, adapter):
    alignment = settings(steps=3, adapter=adapter, checkpoint_minutes=0, consistency={"dim": 8})
    whole, policy = trained(alignment)
    steps = []
    with pytest.raises(Stopped):
        trained(
            alignment,
            checkpoints=tmp_path / "kept",
            on_step=lambda step, figures: steps.append(step),
            should_stop=lambda: len(steps) == 1,
        )
    log, resumed = trained(alignment, checkpoints=tmp_path / "kept")
    assert log == whole
    assert same(resumed.model.state_dict(), policy.model.state_dict())


def test_all_terms_and_translated_examples(trained):
    alignment = settings(translated={"share": 0.5}, gradient_checkpointing=True)
    log, _ = trained(alignment.with_terms("consistency", "decision", "answer"), "m2m_100")
    assert {"consistency_loss", "decision_loss", "answer_loss"} <= log[-1].keys()
    log, _ = trained(alignment.with_translated(), "m2m_100")
    assert all(entry["loss"] > 0 for entry in log)


def test_a_saved_adapter_answers_as_the_merged_model(load, trained, folders, tmp_path):
    _, policy = trained(settings(adapter="lora", learning_rate=1e-2))
    save_policy(policy, tmp_path / "adapter", dtype=torch.float32)
    loaded = load_policy(
        artifact_model(tmp_path / "adapter", "digest", resolve_model(str(folders["t5"]))), device="cpu", encodes=True
    )
    assert same(loaded.model.state_dict(), policy.model.merge_and_unload().state_dict())
    assert not same(loaded.model.state_dict(), load().model.state_dict())


def test_a_carrier_without_a_trainer_says_so(trained):
    with pytest.raises(ValueError, match="the carrier dpo has no trainer for an encoder-decoder"):
        trained(settings("dpo"))


def test_an_answer_that_is_cut_does_not_end(load, rows):
    policy = load()
    both = [rows[0] | {"chosen": "Use baking soda and an acid such as yoghurt."}, rows[1] | {"chosen": "No."}]
    cut, whole = build_encoded_dataset(policy, both, AlignSettings(max_answer_tokens=6))["labels"]
    assert policy.stop_token not in cut
    assert whole[-1] == policy.stop_token


def test_batches_that_are_accumulated_are_averaged(tmp_path):
    options = {"max_steps": 1, "learning_rate": 0.0}
    whole = train("seq2seq", tmp_path / "8", term(), per_device_train_batch_size=8, **options).series()
    parts = train(
        "seq2seq", tmp_path / "1", term(), per_device_train_batch_size=1, gradient_accumulation_steps=8, **options
    ).series()
    # A mean over tokens, and a mean over answers of means over their tokens: not eight times as much.
    assert parts[0] == pytest.approx(whole[0], rel=0.2)
