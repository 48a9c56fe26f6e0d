import json
import logging

import pytest
import torch
from transformers import Trainer, TrainingArguments

from mlc.training.settings import AlignSettings, ConsistencySettings
from mlc.training.term import ConsistencyTerm
from mlc.training.trainer import LOG_FILE, AlignmentTrainer, align, answer_loss
from mlc.training.variants import AlignmentCollator, build_examples

PARTS = {"alignment_loss", "consistency_loss", "collinearity", "between_prompt_cosine"}


def settings(steps=4, **consistency):
    return AlignSettings(
        steps=steps,
        batch_size=3,
        learning_rate=1e-3,
        consistency=ConsistencySettings.model_validate(consistency),
    )


def examples_of(rows, policy, with_variants=True):
    return build_examples(
        rows, policy.tokenizer, 2, max_prompt_tokens=256, max_answer_tokens=96, with_variants=with_variants
    )


@pytest.fixture
def run(load_tiny, tmp_path):
    def run(rows, alignment, seed=0):
        policy = load_tiny()
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        log = align(policy, rows, alignment, seed=seed, folder=folder)
        return log, policy.model.state_dict(), folder

    return run


def series(log, name="alignment_loss"):
    return [entry[name] for entry in log]


def same_weights(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# The English loss.


@torch.no_grad()
def plain_cross_entropy(policy, examples):
    """Mean over all answer tokens; every example alone, all logits, no padding."""
    losses = []
    for example in examples:
        ids = torch.tensor([(*example.prompt.input_ids, *example.answer)])
        logprobs = policy.model(ids).logits[0].log_softmax(dim=-1)
        start = len(example.prompt.input_ids)
        losses += [-logprobs[start - 1 + k, token].item() for k, token in enumerate(example.answer)]
    return sum(losses) / len(losses)


def test_answer_loss_is_the_plain_cross_entropy_of_the_answers(rows, opened):
    rows[0]["chosen"] = "Yes"
    examples = list(examples_of(rows, opened))
    batch = AlignmentCollator(0, 0)(examples)
    with torch.no_grad():
        loss = answer_loss(opened.model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    assert loss.item() == pytest.approx(plain_cross_entropy(opened, examples), abs=1e-5)


def test_answers_that_begin_alike_are_learned_whole(rows, opened):
    for row in rows:
        row["prompt"], row["chosen"] = rows[0]["prompt"], f"{rows[1]['chosen']} {row['chosen']}"
    examples = list(examples_of(rows, opened, with_variants=False))
    batch = AlignmentCollator(0, 0)(examples)
    with torch.no_grad():
        loss = answer_loss(opened.model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    assert loss.item() == pytest.approx(plain_cross_entropy(opened, examples), abs=1e-5)


def test_the_gradient_of_the_answer_loss_is_the_plain_one(rows, opened):
    batch = AlignmentCollator(0, 0)(list(examples_of(rows, opened)))
    model = opened.model.train()
    answer_loss(model, batch["input_ids"], batch["attention_mask"], batch["labels"]).backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], position_ids=positions).logits
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


def test_answer_loss_computes_only_the_logits_that_it_needs(rows, tiny_policy):
    batch = AlignmentCollator(0, 0)(list(examples_of(rows, tiny_policy)))
    widths = []
    handle = tiny_policy.model.lm_head.register_forward_hook(lambda _m, _i, out: widths.append(out.shape[1]))
    try:
        with torch.no_grad():
            answer_loss(tiny_policy.model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    finally:
        handle.remove()
    longest = int((batch["labels"] != -100).sum(dim=1).max())
    assert widths == [longest + 1]
    assert longest + 1 < batch["labels"].shape[1]


# Weight zero.


class PlainTrainer(Trainer):
    """Knows nothing of the term."""

    def __init__(self, **options):
        super().__init__(**options)
        self.model_accepts_loss_kwargs = False
        self.series = []

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = answer_loss(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        self.series.append(float(loss.detach()))
        return loss


def test_weight_zero_is_plain_training_bit_for_bit(rows, run, load_tiny, tmp_path):
    alignment = settings(weight=0)
    log, weights, _ = run(rows, alignment, seed=3)
    policy = load_tiny()
    trainer = PlainTrainer(
        model=policy.model,
        args=TrainingArguments(
            output_dir=str(tmp_path / "plain"),
            max_steps=alignment.steps,
            per_device_train_batch_size=alignment.batch_size,
            learning_rate=alignment.learning_rate,
            warmup_steps=round(alignment.warmup_share * alignment.steps),
            lr_scheduler_type="cosine",
            max_grad_norm=alignment.max_gradient_norm,
            weight_decay=0.0,
            seed=3,
            data_seed=3,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=list(examples_of(rows, policy, with_variants=False)),
        data_collator=AlignmentCollator(0, 0),
    )
    trainer.train()
    assert series(log) == trainer.series
    assert same_weights(weights, policy.model.state_dict())
    assert not (PARTS - {"alignment_loss"}) & log[0].keys()


def test_weight_zero_does_not_look_at_the_variants(rows, run):
    expected, weights, _ = run(rows, settings(steps=2, weight=0))
    for row in rows:
        row["variants"] = None
    found, again, _ = run(rows, settings(steps=2, weight=0, control="shuffled"))
    assert found == expected
    assert same_weights(again, weights)


@pytest.mark.parametrize("term", [{}, {"form": "released", "dim": 8, "layer": 2}, {"control": "shuffled"}])
def test_computing_the_term_disturbs_nothing_else(rows, run, term):
    # A weight below anything that floats can add: the term is computed, and may change nothing.
    plain, plain_weights, _ = run(rows, settings(weight=0))
    faint, faint_weights, _ = run(rows, settings(weight=1e-35, **term))
    assert series(faint) == series(plain)
    assert same_weights(faint_weights, plain_weights)
    assert all(entry["consistency_loss"] > 0 for entry in faint)


def test_a_weight_changes_the_outcome(rows, run):
    plain, plain_weights, _ = run(rows, settings(weight=0))
    pulled, pulled_weights, _ = run(rows, settings(weight=1.0))
    assert series(pulled)[0] == series(plain)[0]
    assert series(pulled)[1:] != series(plain)[1:]
    assert not same_weights(pulled_weights, plain_weights)


def test_training_on_the_term_alone_lowers_it(rows, run):
    # The whole set is one batch, so that every step measures the same prompts.
    alignment = settings(steps=8, weight=50.0, prompts_per_step=6).model_copy(update={"batch_size": 6})
    log, _, _ = run(rows, alignment)
    values = series(log, "consistency_loss")
    assert values[-1] < 0.8 * values[0]


# What the term reaches.


def trainer_of(policy, term, weight, tmp_path):
    return AlignmentTrainer(
        policy,
        term,
        weight,
        args=TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, weight_decay=0.0),
    )


def gradients(policy, trainer, batch):
    policy.model.zero_grad(set_to_none=True)
    trainer.compute_loss(policy.model, dict(batch)).backward()
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in policy.model.named_parameters()
    }


@pytest.mark.parametrize("layer", [1, 2, 0.75])
def test_the_term_moves_the_layers_below_and_none_above(rows, load_tiny, tmp_path, layer):
    policy = load_tiny()
    batch = AlignmentCollator(0, 4)(list(examples_of(rows, policy)))
    term = ConsistencyTerm(ConsistencySettings.model_validate({"layer": layer}), 64, 3)
    plain = gradients(policy, trainer_of(policy, None, 0.0, tmp_path), batch)
    both = gradients(policy, trainer_of(policy, term, 2.0, tmp_path), batch)
    policy.model.zero_grad(set_to_none=True)
    term(policy.model, batch["variants"]).loss.backward()
    alone = {name: parameter.grad for name, parameter in policy.model.named_parameters()}
    below = round(layer * 4) if isinstance(layer, float) else layer
    for name in plain:
        index = int(name.split(".")[2]) if ".layers." in name else None
        if index is not None and index < below:
            difference = both[name] - plain[name]
            assert difference.abs().max() > 1e-5, name
            torch.testing.assert_close(difference, 2.0 * alone[name], atol=1e-5, rtol=1e-3)
        elif index is not None or name == "model.norm.weight":
            assert torch.equal(both[name], plain[name]), name
            assert alone[name] is None, name


def test_the_extractor_is_in_the_optimiser(load_tiny, tmp_path):
    policy = load_tiny()
    term = ConsistencyTerm(ConsistencySettings.model_validate({"dim": 8}), 64, 3)
    optimizer = trainer_of(policy, term, 1.0, tmp_path).create_optimizer()
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in term.parameters()} <= trained
    assert {id(parameter) for parameter in policy.model.parameters()} <= trained


# Seeds.


def test_the_seed_decides_everything(rows, run):
    alignment = settings(form="released", dim=8, layer=2, control="shuffled")
    first, again, other = run(rows, alignment, 0), run(rows, alignment, 0), run(rows, alignment, 1)
    assert first[0] == again[0]
    assert same_weights(first[1], again[1])
    assert not same_weights(first[1], other[1])
    assert series(first[0]) != series(other[0])


def test_the_random_state_of_the_caller_does_not_matter(rows, run):
    torch.manual_seed(1)
    first = run(rows, settings(form="released", dim=8))
    torch.manual_seed(2)
    second = run(rows, settings(form="released", dim=8))
    assert same_weights(first[1], second[1])


def test_the_callers_rows_stay_as_they_are(rows, run):
    before = json.dumps(rows)
    run(rows, settings(control="shuffled", steps=1))
    assert json.dumps(rows) == before


# The log.


def test_the_log_holds_what_is_watched(rows, run):
    log, _, folder = run(rows, settings(weight=0.5))
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    for entry in log:
        assert PARTS | {"loss", "learning_rate", "grad_norm"} <= entry.keys()
        assert all(isinstance(value, int | float) for value in entry.values())
        total = entry["alignment_loss"] + 0.5 * entry["consistency_loss"]
        assert entry["loss"] == pytest.approx(total, rel=1e-4)
        assert 1 / 3 <= entry["collinearity"] <= 1 + 1e-6
        assert -1 <= entry["between_prompt_cosine"] <= 1 + 1e-6
    assert [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()] == log


def test_each_step_is_reported(rows, load_tiny, tmp_path):
    told = []
    log = align(
        load_tiny(),
        rows,
        settings(),
        seed=0,
        folder=tmp_path,
        on_step=lambda step, figures: told.append((step, figures)),
    )
    assert [step for step, _ in told] == [1, 2, 3, 4]
    assert [figures["loss"] for _, figures in told] == series(log, "loss")


def test_the_policy_comes_back_in_evaluation_mode(rows, load_tiny, tmp_path):
    policy = load_tiny()
    align(policy, rows, settings(steps=1), seed=0, folder=tmp_path)
    assert not policy.model.training


# What rows may lack.


def test_without_any_variant_the_english_loss_is_left(english_rows, run):
    with_term, weights, _ = run(english_rows, settings(weight=1.0))
    plain, plain_weights, _ = run(english_rows, settings(weight=0))
    assert series(with_term) == series(plain)
    assert same_weights(weights, plain_weights)
    assert not any("consistency_loss" in entry for entry in with_term)


def test_a_step_without_variants_logs_no_stale_figures(rows, run):
    for row in rows[:5]:
        row["mask"] = [True, False, False]
    alignment = settings(steps=6).model_copy(update={"batch_size": 1})
    log, _, _ = run(rows, alignment)
    # Each row comes once in six steps of one, and one of them has translations.
    assert sum("consistency_loss" in entry for entry in log) == 1
    assert all("alignment_loss" in entry for entry in log)


def test_long_prompts_are_left_out_with_a_warning(rows, run, caplog):
    rows[2]["prompt"] = "very " * 300
    with caplog.at_level(logging.WARNING, logger="mlc.training.trainer"):
        long, weights, _ = run(rows, settings(steps=2))
    assert "1 of 6 prompts are longer than 256 tokens and left out of training" in caplog.text
    assert "very" not in caplog.text
    without, expected, _ = run(rows[:2] + rows[3:], settings(steps=2))
    assert long == without
    assert same_weights(weights, expected)


def test_no_prompt_that_is_short_enough(rows, run):
    alignment = settings().model_copy(update={"max_prompt_tokens": 8})
    with pytest.raises(ValueError, match="none of the 6 prompts has at most 8 tokens"):
        run(rows, alignment)
