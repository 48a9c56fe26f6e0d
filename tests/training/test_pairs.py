"""The losses on pairs in their trainers: what is computed, what stays frozen, what is counted."""

import json

import pytest
import torch

from mlc.errors import UserError
from mlc.losses.reward_gap import reward_gap_loss
from mlc.methods import resolve_method
from mlc.training.align import LOG_FILE, align
from mlc.training.carriers.carrier import Training
from mlc.training.mpo import mpo_trainer
from mlc.training.msd import guided_text, msd_trainer
from mlc.training.pairs import answer_ids
from mlc.training.settings import AlignSettings
from mlc.training.translated import TranslatedSettings, translated_rows

SETTINGS = AlignSettings.model_validate(
    {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "msd": {"answer_tokens": 6}}
)
MAKERS = {"mpo": mpo_trainer, "msd": msd_trainer}


@pytest.fixture
def answered(rows):
    return [
        row
        | {
            "variant_chosen": [row["chosen"], f"ya {row['chosen'][::-1]}", ""],
            "variant_rejected": [row["rejected"], "ni hapana", "rara"],
        }
        for row in rows
    ]


def trainer_of(name, policy, rows, folder, **changes):
    settings = resolve_method(name).alignment(SETTINGS.model_copy(update=changes))
    pairs = translated_rows(rows, settings.translated, seed=0)
    options = {"output_dir": str(folder), "per_device_train_batch_size": 4, "use_cpu": True, "report_to": []}
    return MAKERS[name](Training(policy, None, None, settings, options, None, pairs))


def rows_in(trainer):
    return [dict(row) for row in trainer.train_dataset]


def mean_log_probability(model, prompt, answer):
    """Of the tokens of an answer, of one row alone and without padding."""
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return logits.gather(-1, torch.tensor(answer).unsqueeze(-1)).mean()


def test_the_loss_of_a_step_is_that_of_its_pairs_alone(answered, load_tiny, tmp_path):
    policy = load_tiny()
    trainer = trainer_of("mpo", policy, answered, tmp_path)
    pairs = rows_in(trainer)[:3]
    # One without a translated answer is no pair.
    assert len(trainer.train_dataset) == len(answered)
    model = policy.model.eval()

    def gap(row):
        return mean_log_probability(model, row["prompt"], row["chosen"]) - mean_log_probability(
            model, row["prompt"], row["rejected"]
        )

    english = [trainer.english[pair["english"]] for pair in pairs]
    states = [
        model(torch.tensor([row["prompt"]]), output_hidden_states=True).hidden_states[-1][0, -1] for row in english
    ]
    gaps, reference = (torch.stack(list(map(gap, some))) for some in (pairs, english))
    expected = reward_gap_loss(gaps, reference, torch.stack(states), torch.stack(states)).loss.mean()
    loss, figures = trainer.loss_of(model, pairs)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    # Before the first step the model is its own reference.
    assert figures["retention"] == pytest.approx(0.0, abs=1e-6)
    assert figures["reward_gap"] == pytest.approx(gaps.mean().item(), abs=1e-4)
    assert not trainer.reference_gaps.requires_grad
    assert not trainer.reference_states.requires_grad


@pytest.mark.parametrize("on", ["off", "on"])
def test_the_teacher_is_the_start_and_stays_it(rows, load_tiny, tmp_path, on):
    policy = load_tiny()
    msd = SETTINGS.msd.model_copy(update={"policy": on})
    trainer = trainer_of("msd", policy, rows, tmp_path, msd=msd)
    (teacher,) = trainer._teacher
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    trainer.train()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_a_teacher_that_sees_the_same_teaches_nothing(rows, load_tiny, tmp_path):
    trainer = trainer_of("msd", load_tiny(), rows, tmp_path)
    pairs = [pair | {"guided": pair["prompt"]} for pair in rows_in(trainer)[:3]]
    loss, figures = trainer.loss_of(trainer.model.eval(), pairs)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert 1 <= figures["answer_tokens"] <= 6


def test_what_the_teacher_sees(rows):
    row = translated_rows(rows, TranslatedSettings(share=0.5), seed=0)[0]
    told = guided_text(row, SETTINGS.msd)
    assert told.startswith(row["prompt"])
    assert rows[0]["prompt"] in told
    assert told.endswith(SETTINGS.msd.instruction)


def test_what_the_teacher_cannot_read_with_its_answer_is_left_out_and_counted(rows, load_tiny, tmp_path):
    policy = load_tiny()
    pairs = rows_in(trainer_of("msd", policy, rows, tmp_path))
    *others, longest = sorted(len(pair["guided"]) for pair in pairs)
    policy.model.config.max_position_embeddings = limit = longest - 1 + SETTINGS.msd.answer_tokens
    counts = []
    settings = resolve_method("msd").alignment(SETTINGS.model_copy(update={"steps": 1, "max_answer_tokens": 40}))
    align(policy, rows, settings, seed=0, folder=tmp_path, on_left_out=counts.extend)
    told = [(count.kind, count.rows, count.of, count.limit) for count in counts if count.rows]
    long = 1 + others.count(longest)
    assert told == [("long guided prompt", long, len(pairs), limit - SETTINGS.msd.answer_tokens)]
    policy.model.config.max_position_embeddings = others[0]
    with pytest.raises(UserError, match=rf"None of the {len(pairs)} translated prompts .* at most {others[0]} tokens"):
        trainer_of("msd", policy, rows, tmp_path)


def test_an_answer_ends_unless_it_is_cut(load_tiny):
    policy = load_tiny()
    whole = answer_ids(policy, "Use baking soda.", 50)
    assert whole[-1] == policy.stop_token
    assert answer_ids(policy, "Use baking soda.", 3) == whole[:3]


@pytest.mark.parametrize(("name", "figure"), [("mpo", "reward_gap"), ("msd", "answer_tokens")])
def test_it_aligns_logs_and_does_the_same_again(answered, load_tiny, tmp_path, name, figure):
    weights = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        policy = load_tiny()
        log = align(policy, answered, resolve_method(name).alignment(SETTINGS), seed=0, folder=folder)
        weights.append(policy.model.state_dict())
        assert [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()] == log
    assert len(log) == 2
    assert all(entry[figure] == entry[figure] for entry in log)
    assert 0 < log[0]["num_tokens"] < log[1]["num_tokens"]
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


def test_an_adapter_teaches_itself(rows, load_tiny, tmp_path):
    from mlc.training.adapters import AdapterSettings

    settings = SETTINGS.model_copy(update={"adapter": AdapterSettings(r=2), "steps": 1})
    policy = load_tiny()
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    align(policy, rows, resolve_method("msd").alignment(settings), seed=0, folder=tmp_path)
    kept = policy.model.get_base_model().state_dict()
    own = {name.replace("base_layer.", ""): tensor for name, tensor in kept.items() if "lora" not in name}
    assert all(torch.equal(before[name], own[name]) for name in before)
    trained = [tensor for name, tensor in policy.model.named_parameters() if "lora_B" in name]
    assert any(tensor.any() for tensor in trained)


def test_a_configuration_names_the_method_not_the_loss():
    with pytest.raises(ValueError, match="name the method mpo in models"):
        AlignSettings.model_validate({"carrier": "mpo"})


def first_adapter(policy, rows, folder, seed):
    """Weights of a new adapter, whatever was drawn in the process before."""
    from peft import LoraConfig

    torch.randn(seed + 7)
    settings = resolve_method("mpo").alignment(SETTINGS)
    options = {"output_dir": str(folder), "per_device_train_batch_size": 4, "use_cpu": True, "report_to": []}
    adapter = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    pairs = translated_rows(rows, settings.translated, seed=0)
    trainer = mpo_trainer(Training(policy, None, None, settings, options | {"seed": seed}, adapter, pairs))
    return torch.cat([tensor.flatten() for name, tensor in trainer.model.named_parameters() if "lora_A" in name])


def test_a_new_adapter_is_that_of_the_seed(answered, load_tiny, tmp_path):
    found = [first_adapter(load_tiny(), answered, tmp_path, seed) for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", ["mpo", "msd"])
def test_there_is_no_dropout(answered, load_tiny, tmp_path, name):
    policy = load_tiny()
    for layer in policy.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
        layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.5))
    trainer = trainer_of(name, policy, answered, tmp_path)
    trainer.model.train()
    pairs = rows_in(trainer)[:3]
    if name == "mpo":
        # Before the first step the model is its own reference, in training mode too.
        assert trainer.loss_of(trainer.model, pairs)[1]["retention"] == pytest.approx(0.0, abs=1e-6)
    one, again = (trainer.model(torch.tensor([pairs[0]["prompt"]])).logits for _ in range(2))
    assert torch.equal(one, again)


def test_the_reference_is_computed_in_the_precision_of_the_training(answered, load_tiny, tmp_path):
    settings = resolve_method("mpo").alignment(SETTINGS.model_copy(update={"autocast": "bfloat16", "steps": 1}))
    log = align(load_tiny(), answered, settings, seed=0, folder=tmp_path)
    assert log[0]["retention"] == pytest.approx(0.0, abs=1e-7)


def test_tokens_of_the_start_count_once_where_a_training_goes_on(answered, load_tiny, tmp_path):
    from mlc.stopping import Stopped

    settings = resolve_method("mpo").alignment(SETTINGS)
    (tmp_path / "whole").mkdir()
    whole = align(load_tiny(), answered, settings, seed=0, folder=tmp_path / "whole")
    partly = {"seed": 0, "folder": tmp_path, "checkpoints": tmp_path / "partial"}
    with pytest.raises(Stopped):
        align(load_tiny(), answered, settings, should_stop=lambda: True, **partly)
    assert align(load_tiny(), answered, settings, **partly)[-1]["num_tokens"] == whole[-1]["num_tokens"]
