"""Configurations that must give the same training, and what must not change it."""

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open

from mlc.training.mixin import STATE_FILE
from tests.covering import chosen
from tests.training.runs import (
    CARRIERS,
    LANGUAGES,
    Run,
    close,
    dataset,
    make_rows,
    nano,
    same,
    term,
    tiny,
    train,
    trainer_of,
)
from tests.training.series import FIGURES

RELEASED = {"form": "released", "dim": 8, "layer": 2}


def assert_same_series(first, second, tolerance=1e-4):
    for ours, theirs in zip(first.log, second.log, strict=True):
        shown = ({name: entry[name] for name in FIGURES if name in entry} for entry in (ours, theirs))
        assert next(shown) == pytest.approx(next(shown), rel=tolerance, abs=tolerance)


# Batch 1 x accumulate 8 = batch 8 x 1.


SPLIT = {
    "sft, cosine": ("sft", {}),
    "sft, contrastive": ("sft", {"form": "contrastive"}),
    "sft, released": ("sft", RELEASED),
    "sft, every second step": ("sft", {"center": "running", "prompts_per_step": 3, "every": 2}),
    "kl, contrastive": ("kl", {"form": "contrastive"}),
    "dpo, contrastive": ("dpo", {"form": "contrastive"}),
    "simpo, cosine": ("simpo", {}),
    "seq2seq_kl, released": ("seq2seq_kl", RELEASED),
}


@pytest.mark.parametrize(
    "name", chosen(SPLIT, "sft, every second step", "dpo, contrastive", "simpo, cosine", "seq2seq_kl, released")
)
def test_one_by_eight_is_eight_by_one(tmp_path, name):
    carrier, values = SPLIT[name]
    # Rows that are not alike: some without translations, answers of very different length.
    rows = make_rows()
    rows[1]["variants"][1] = None
    rows[5]["variants"][1:] = [None, ""]
    rows[6]["chosen"] = "No."
    # A larger epsilon keeps Adam from making a step out of a rounding error.
    options = {"rows": rows, "max_steps": 2, "adam_epsilon": 1e-3, "train_sampling_strategy": "sequential"}
    split, whole = (
        train(
            carrier,
            tmp_path,
            term(**values),
            **options,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=count,
        )
        for size, count in ((1, 8), (8, 1))
    )
    assert_same_series(split, whole)
    close(split.weights, whole.weights, 1e-5)
    close(split.trainer.term.state_dict(), whole.trainer.term.state_dict(), 1e-5)
    # Once per optimiser step, over its whole batch.
    assert len(split.variants) == len(whole.variants) == (1 if "every" in values else 2)
    assert len(split.variants[0].mask) == values.get("prompts_per_step", 7)


# Left = right.


@pytest.mark.parametrize("carrier", chosen(["sft", "dpo"], "dpo"))
def test_the_tokenizers_padding_side_does_not_matter(tmp_path, carrier):
    runs = []
    for side in ("left", "right"):
        model, tokenizer = tiny()
        tokenizer.padding_side = side
        runs.append(train(carrier, tmp_path / side, term(), loaded=(model, tokenizer)))
    assert_same_series(*runs)


# The reference of DPO, in each step or once beforehand.


def test_the_reference_may_be_computed_beforehand(tmp_path):
    during, before = (train("dpo", tmp_path, term(), precompute_ref_log_probs=early) for early in (False, True))
    assert_same_series(before, during, 1e-5)


# Resumed = uninterrupted.


STOPPED = {
    "sft": {**RELEASED, "center": "running", "every": 2},
    "dpo": {"center": "running", "warmup_steps": 4},
    "seq2seq": {**RELEASED, "center": "running"},
}


# The others are in test_checkpoints, through `align`.
@pytest.mark.parametrize("carrier", chosen(STOPPED, "seq2seq"))
def test_resumed_is_uninterrupted(tmp_path, carrier):
    values = STOPPED[carrier]
    options = {"max_steps": 6, "save_steps": 3, "save_strategy": "steps", "per_device_train_batch_size": 3}
    whole = train(carrier, tmp_path / "whole", term(**values), **options)
    resumed = train(carrier, tmp_path / "again", term(**values), **options, resume=str(tmp_path / "whole/checkpoint-3"))
    assert len(resumed.calls) == 3
    assert_same_series(resumed, whole, 0.0)
    assert same(resumed.weights, whole.weights)
    assert same(resumed.trainer.term.state_dict(), whole.trainer.term.state_dict())
    assert whole.trainer.term.centering.started.all()


def test_a_checkpoint_without_the_term(tmp_path):
    train("sft", tmp_path, None, max_steps=2, save_steps=2, save_strategy="steps")
    with pytest.raises(FileNotFoundError, match=r"'checkpoint-2' holds no consistency\.safetensors: resume from one"):
        train("sft", tmp_path, term(), max_steps=3, resume=str(tmp_path / "checkpoint-2"))
    # Without the term nothing is missed.
    assert len(train("sft", tmp_path, term(weight=0), max_steps=3, resume=str(tmp_path / "checkpoint-2")).calls) == 1


def test_the_extractor_is_beside_the_model_and_not_in_it(tmp_path):
    run = train("sft", tmp_path, term(**RELEASED), max_steps=1, save_steps=1, save_strategy="steps")
    run.trainer.save_model(str(tmp_path / "model"))
    names = {}
    for folder in (tmp_path / "checkpoint-1", tmp_path / "model"):
        with safe_open(folder / "model.safetensors", "pt") as file:
            names[folder.name] = set(file.keys())
    assert names["model"] == names["checkpoint-1"]
    assert names["model"] <= set(tiny()[0].state_dict())
    assert (tmp_path / "checkpoint-1" / STATE_FILE).is_file()
    assert not (tmp_path / "model" / STATE_FILE).exists()
    with safe_open(tmp_path / "checkpoint-1" / STATE_FILE, "pt") as file:
        assert {"head.extract.weight", "head.extract.bias", "centering.mean"} <= set(file.keys())


def test_the_extractor_is_trained_without_decay(tmp_path):
    trainer = trainer_of("sft", tmp_path, term(**RELEASED), weight_decay=0.5)
    before = {name: tensor.clone() for name, tensor in trainer.term.named_parameters()}
    trainer.train()
    groups = {id(p): group for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in trainer.model.parameters() if p.requires_grad} <= groups.keys()
    for name, parameter in trainer.term.named_parameters():
        assert groups[id(parameter)]["weight_decay"] == 0.0
        assert not torch.equal(parameter, before[name])


def test_the_extractor_rests_where_the_term_is_off(tmp_path):
    once, twice = (train("sft", tmp_path, term(**RELEASED, every=2), max_steps=steps) for steps in (1, 2))
    assert same(once.trainer.term.state_dict(), twice.trainer.term.state_dict())
    assert not same(once.weights, twice.weights)


def test_the_extractors_gradient_is_that_of_one_step(tmp_path):
    options = {"learning_rate": 0.0, "per_device_train_batch_size": 8, "max_grad_norm": 1e9}
    norms = train("sft", tmp_path, term(**RELEASED, weight=50.0), **options).series("grad_norm")
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-5)


def test_gradients_are_clipped_with_the_extractors(tmp_path):
    norms = []
    for limit in (1e9, 1e-2):
        run = Run(trainer_of("sft", tmp_path, term(**RELEASED, weight=50.0), max_steps=1, max_grad_norm=limit))
        run.trainer.train()
        norms.append(run.log[0]["grad_norm"])
        if limit == 1e-2:
            squares = sum(float(gradient.square().sum()) for gradient in run.gradients.values())
            assert squares < 1e-4
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


# Mixed precision, recomputed activations, adapters.


@pytest.mark.parametrize("carrier", chosen(["sft", "dpo"], "sft"))
def test_the_term_is_computed_under_autocast(tmp_path, carrier):
    trainer = trainer_of(carrier, tmp_path, term(**RELEASED), bf16=True)
    run, types = Run(trainer), []
    trainer.term.head.register_forward_hook(lambda _module, _given, states: types.append(states.dtype))
    projected = trainer.model.model.layers[0].mlp.down_proj
    projections = []
    projected.register_forward_hook(lambda _module, _given, out: projections.append(out.dtype))
    trainer.train()
    assert types == [torch.bfloat16] * 3
    # The variants pass there too, in a forward pass of their own.
    assert projections == [torch.bfloat16] * 6
    precise = train(carrier, tmp_path, term(**RELEASED))
    assert run.series("consistency_loss") == pytest.approx(precise.series("consistency_loss"), rel=0.02)
    assert all(torch.isfinite(tensor).all() for tensor in run.weights.values())
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("carrier", chosen(["sft", "dpo", "seq2seq"], "dpo", "seq2seq"))
def test_recomputed_activations_give_the_same(tmp_path, carrier):
    kept, recomputed = (
        train(carrier, tmp_path, term(**RELEASED), gradient_checkpointing=recompute, adam_epsilon=1e-3)
        for recompute in (False, True)
    )
    assert_same_series(recomputed, kept, 1e-5)
    close(recomputed.weights, kept.weights, 1e-5)
    assert recomputed.calls[0]["0"] > kept.calls[0]["0"]


def test_adapters_learn_from_the_term_and_nothing_else_moves(tmp_path):
    adapter = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    runs = []
    for consistency in (term(weight=0), term(**RELEASED, weight=2.0)):
        trainer = trainer_of(
            "sft", tmp_path, consistency, more={"peft_config": adapter}, max_steps=1, max_grad_norm=1e9
        )
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        runs.append(Run(trainer))
        trainer.train()
        moved = {name for name, tensor in runs[-1].weights.items() if not torch.equal(tensor, before[name])}
        assert moved == {name for name in before if "lora_" in name}
    plain, joined = (run.gradients for run in runs)
    assert plain.keys() == joined.keys()
    for name in plain:
        below = ".layers.0." in name or ".layers.1." in name
        assert torch.equal(plain[name], joined[name]) != below, name
    assert runs[1].trainer.optimizer.param_groups[-1]["params"] == list(runs[1].trainer.term.parameters())


# Evaluation.


@pytest.mark.parametrize("carrier", chosen(CARRIERS, "lean_sft", "kl", "dpo", "seq2seq"))
def test_evaluation_is_the_carriers_alone(tmp_path, carrier):
    _, tokenizer = CARRIERS[carrier].load()
    about_variants = {"variant_weights": [1.0, 0.5, 0.5], "variant_label": "harmless", "languages": list(LANGUAGES)}
    held_out = [row | about_variants for row in make_rows(4)]
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 2, "per_device_eval_batch_size": 2}
    losses = []
    for consistency in (None, term()):
        data = dataset(carrier, held_out, tokenizer, variants=consistency is not None)
        run = train(carrier, tmp_path, consistency, more={"eval_dataset": data}, learning_rate=0.0, **options)
        entries = [entry for entry in run.trainer.state.log_history if "eval_loss" in entry]
        assert len(entries) == 2
        assert not any("consistency" in name for entry in entries for name in entry)
        losses.append([entry["eval_loss"] for entry in entries])
        assert len(run.variants) == (0 if consistency is None else 2)
    assert losses[0] == losses[1]


def test_several_sets_for_evaluation(tmp_path):
    _, tokenizer = tiny()
    held_out = dataset("sft", make_rows(2), tokenizer)
    trainer = trainer_of("sft", tmp_path, term(), more={"eval_dataset": {"one": held_out, "two": held_out}})
    figures = trainer.evaluate()
    assert figures["eval_one_loss"] == figures["eval_two_loss"]


# What the term needs.


def test_mistakes_are_told_before_training(tmp_path):
    loaded = tiny()

    def make(consistency=None, **options):
        return trainer_of("sft", tmp_path, consistency or term(), loaded=loaded, **options)

    plain = dataset("sft", make_rows(), loaded[1], variants=False)
    with pytest.raises(ValueError, match=r"needs a column 'variants' .*; it has prompt, completion"):
        make(more={"train_dataset": plain})
    with pytest.raises(ValueError, match="train_dataset must be a Dataset of the library datasets"):
        make(more={"train_dataset": dataset("sft", make_rows(), loaded[1]).to_iterable_dataset()})
    with pytest.raises(ValueError, match="processing_class must be the policy's tokenizer"):
        make(more={"processing_class": None})
    with pytest.raises(ValueError, match="packing=True joins prompts into one row"):
        make(packing=True)
    with pytest.raises(ValueError, match="language_weights names 'zul_Latn'; the data has 0, 1, 2"):
        make(term(language_weights={"zul_Latn": 1.0}))
    # Without the term none of it matters.
    assert make(term(weight=0), more={"train_dataset": plain}).term is None


def test_languages_of_the_data_take_their_weights(tmp_path):
    rows = [row | {"languages": ["eng_Latn", "swh_Latn", "yor_Latn"]} for row in make_rows()]
    weights = {"yor_Latn": 3.0}
    trainer = trainer_of("sft", tmp_path, term(language_weights=weights), rows=rows)
    assert trainer.term.language_weights.tolist() == [1.0, 1.0, 3.0]
    run, plain = train("sft", tmp_path, term(language_weights=weights), rows=rows), train("sft", tmp_path, term())
    assert run.series("alignment_loss")[0] == plain.series("alignment_loss")[0]
    assert run.series("consistency_loss")[0] != pytest.approx(plain.series("consistency_loss")[0], rel=1e-3)


@pytest.mark.parametrize("carrier", chosen(["sft", "simpo", "grpo", "seq2seq"], "simpo", "grpo"))
def test_weights_of_rows_reach_the_term(tmp_path, carrier):
    rows = [row | {"variant_weights": [1.0, 0.0, number + 1.0]} for number, row in enumerate(make_rows())]
    run = train(carrier, tmp_path, term(), rows=rows, max_steps=1)
    assert run.variants[0].weights[:, :2].tolist() == [[1.0, 0.0]] * 4
    assert run.variants[0].weights[:, 2].min() >= 1.0


def test_the_control_changes_the_term_and_not_the_carrier(tmp_path):
    rows = [row | {"variant_label": row["label"]} for row in make_rows()]
    plain, within, overall = (
        train("sft", tmp_path, term(control=control), rows=rows, max_steps=1)
        for control in ("none", "shuffled_within_class", "shuffled")
    )
    assert plain.series("alignment_loss") == within.series("alignment_loss") == overall.series("alignment_loss")
    assert len({run.series("consistency_loss")[0] for run in (plain, within, overall)}) == 3


def test_an_encoder_decoder_model_reads_bare_texts(tmp_path):
    model, tokenizer = nano()
    run = train("seq2seq", tmp_path, term(), loaded=(model, tokenizer), max_steps=1)
    batch = run.variants[0]
    texts = tokenizer.batch_decode(batch.prompts.input_ids, skip_special_tokens=True)
    expected = {text for row in make_rows() for text in row["variants"]}
    normal = {tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) for text in expected}
    assert set(texts) <= normal
