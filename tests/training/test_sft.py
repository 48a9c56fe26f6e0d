"""The lean trainer against TRL's own: the same numbers from less work."""

from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTTrainer

from tests.covering import chosen
from tests.training.conftest import SYSTEM
from tests.training.runs import close, dataset, make_rows, same, tiny, train, trainer_of

ADAPTER = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, lora_dropout=0.0)
# A larger epsilon keeps Adam from making a step out of a rounding error.
STEPS = {"max_steps": 3, "max_grad_norm": 1e9, "adam_epsilon": 1e-3}


def load(template=SYSTEM, side="right", **values):
    model, tokenizer = tiny()
    tokenizer.chat_template = None if template is None else template + tokenizer.chat_template
    tokenizer.padding_side = side
    for name, value in values.items():
        setattr(model.config, name, value)
    return model, tokenizer


def both(folder, rows=None, loading=None, **options):
    return [
        train(carrier, folder, None, rows=rows or uneven(), loaded=load(**(loading or {})), **{**STEPS, **options})
        for carrier in ("sft", "lean_sft")
    ]


def uneven():
    rows = make_rows()
    rows[1]["chosen"] = "No."
    rows[2]["prompt"] = rows[2]["prompt"] * 4
    return rows


@contextmanager
def sizes(model):
    """Tokens that enter the model, and states that enter its head, in each forward pass."""
    entered = {"tokens": [], "head": []}
    modules = {"tokens": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    handles = [
        module.register_forward_hook(lambda _module, given, _out, name=name: entered[name].append(given[0]))
        for name, module in modules.items()
    ]
    yield entered
    for handle in handles:
        handle.remove()


# The same as TRL's.


OPTIONS = {
    "plain": {},
    "no shared opening": {"loading": {"template": ""}},
    "padded on the left": {"loading": {"side": "left"}},
    "eager attention": {"loading": {"_attn_implementation": "eager"}},
    "one by one": {"per_device_train_batch_size": 1},
    "all at once": {"per_device_train_batch_size": 8},
    "accumulated": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
    "recomputed": {"gradient_checkpointing": True},
    "not averaged": {"average_tokens_across_devices": False},
    "adapter": {"more": {"peft_config": ADAPTER}},
}


@pytest.mark.parametrize(
    "name", chosen(OPTIONS, "no shared opening", "padded on the left", "accumulated", "recomputed", "adapter")
)
def test_loss_gradients_and_log_are_trls(tmp_path, name):
    stock, lean = both(tmp_path, **OPTIONS[name])
    close(lean.gradients, stock.gradients, 1e-5)
    close(lean.weights, stock.weights, 1e-5)
    assert len(lean.log) == 3
    for ours, theirs in zip(lean.log, stock.log, strict=True):
        assert ours.keys() == theirs.keys() >= {"loss", "entropy", "mean_token_accuracy", "num_tokens", "grad_norm"}
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_whole_texts_are_trls(tmp_path):
    # Each token has a label then, the first one too, which nothing tells.
    texts = Dataset.from_list([{"text": f"{row['prompt']} {row['chosen']}"} for row in uneven()])
    stock, lean = both(tmp_path, more={"train_dataset": texts})
    close(lean.gradients, stock.gradients, 1e-5)
    for ours, theirs in zip(lean.log, stock.log, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("change", ["padded on the left", "labels on padding", "a hole", "an empty row", "positions"])
def test_batches_of_other_collators_are_trls_to_the_last_bit(tmp_path, change):
    trainer = trainer_of("lean_sft", tmp_path, None, rows=uneven(), loaded=load())
    batch = next(iter(trainer.get_train_dataloader()))
    shortest = int(batch["attention_mask"].sum(dim=1).argmin())
    if change == "padded on the left":
        batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    elif change == "labels on padding":
        batch["labels"][shortest, -1] = 5
    elif change == "a hole":
        batch["attention_mask"][shortest, 2] = 0
    elif change == "an empty row":
        batch["attention_mask"][shortest] = 0
        batch["labels"][shortest] = -100
    else:
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"]) + 1
    ours = trainer.compute_loss(trainer.model, dict(batch))
    assert torch.equal(ours, SFTTrainer.compute_loss(trainer, trainer.model, dict(batch)))


def test_evaluation_is_trls(tmp_path):
    held_out = dataset("sft", uneven()[:5], tiny()[1], variants=False)
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
    stock, lean = both(tmp_path, more={"eval_dataset": held_out}, **options)
    timed = ("runtime", "per_second")
    for ours, theirs in zip(lean.trainer.state.log_history, stock.trainer.state.log_history, strict=True):
        assert ours.keys() == theirs.keys()
        numbers = [{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


def test_mixed_precision_is_nearly_trls(tmp_path):
    stock, lean = both(tmp_path, bf16=True)
    assert lean.series() == pytest.approx(stock.series(), rel=0.02)
    assert {tensor.dtype for tensor in lean.weights.values()} == {torch.float32}


def test_a_batch_without_labels(tmp_path):
    losses = []
    for carrier in ("sft", "lean_sft"):
        trainer = trainer_of(carrier, tmp_path, None)
        batch = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, {**batch, "labels": torch.full((1, 3), -100)})
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(torch.isfinite(p.grad).all() for p in trainer.model.parameters() if p.grad is not None)
    assert losses == [0.0, 0.0]


# What is computed.


@pytest.mark.parametrize("wrapped", [False, True])
def test_only_what_the_loss_asks_for_is_computed(tmp_path, wrapped):
    more = {"peft_config": ADAPTER} if wrapped else {}
    trainer = trainer_of("lean_sft", tmp_path, None, rows=uneven(), loaded=load(), more=more)
    batch = next(iter(trainer.get_train_dataloader()))
    real, labelled = int(batch["attention_mask"].sum()), int((batch["labels"] != -100).sum())
    first = int((batch["labels"] != -100).float().argmax(dim=1).min())
    ids = batch["input_ids"]
    alike = int((ids[:, : first - 1] == ids[:1, : first - 1]).all(dim=0).long().cumprod(dim=0).sum())
    assert alike > 8
    with sizes(trainer.model) as entered:
        trainer.compute_loss(trainer.model, batch)
    # The tiny model's attention costs as much as the rest of it, so that more than one pack may be best.
    ((tokens,), (states,)) = entered["tokens"], entered["head"]
    assert real - (len(ids) - 1) * alike <= tokens.numel() < 0.8 * ids.numel()
    assert states.shape[:-1] == (labelled,)
    assert not trainer.model.get_output_embeddings()._forward_pre_hooks


# What is left to TRL's.


@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": "dft"},
        {"label_smoothing_factor": 0.1},
        {"loading": {"attention_dropout": 0.1}},
        {"more": {"peft_config": LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.3)}},
    ],
    ids=", ".join,
)
def test_the_rest_is_trls_to_the_last_bit(tmp_path, options):
    stock, lean = both(tmp_path, **options)
    assert lean.log == stock.log
    assert same(lean.weights, stock.weights)


def test_outputs_are_trls(tmp_path):
    trainer = trainer_of("lean_sft", tmp_path, None)
    batch = next(iter(trainer.get_train_dataloader()))
    with pytest.warns(FutureWarning, match="return_outputs"):
        loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    assert outputs.logits.shape[:2] == batch["input_ids"].shape
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(float(loss.detach()), rel=1e-5)
