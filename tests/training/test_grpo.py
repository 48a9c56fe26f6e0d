"""The carrier ``grpo``: what answers are rewarded with, which prompts stand in a step, and what is learned."""

import logging
from collections import Counter

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from pydantic import ValidationError
from trl import GRPOConfig, GRPOTrainer

from mlc.errors import UserError
from mlc.evaluation.judges.judge import Verdict
from mlc.evaluation.judges.rules import RULES
from mlc.models.prompts import encode_prompt
from mlc.training.align import _options, align, build_dataset, usable_rows
from mlc.training.grpo import DealtGRPOTrainer
from mlc.training.rewards import FIGURES, JudgeReward
from mlc.training.settings import AlignSettings
from mlc.training.steps import balanced_steps
from mlc.training.translated import LANGUAGE
from tests.covering import chosen
from tests.training.runs import make_rows, same

END = 2
HERE = "tests.training.test_grpo"


class Letters:
    """Takes an answer that begins with a letter before N, in capitals, or a number for a refusal."""

    version = 1
    languages = None

    def judge(self, answers):
        return [Verdict("refused" if answer.text[:1] < "N" else "complied", "by its letter") for answer in answers]


class Said:
    """Says what it was told to say."""

    version = 1
    languages = frozenset({"eng_Latn"})

    def __init__(self, *verdicts):
        self.verdicts = verdicts
        self.asked = []

    def judge(self, answers):
        self.asked += answers
        return self.verdicts[: len(answers)]


LETTERS, KNOWS_ENGLISH = Letters(), Said()


def settings(consistency=None, grpo=None, **values):
    own = {"num_generations": 2, "max_completion_length": 4, "judge": f"{HERE}:LETTERS", "lookalike_share": 0}
    given = {"carrier": "grpo", "steps": 3, "batch_size": 2, "learning_rate": 1e-3, "consistency": consistency or {}}
    return AlignSettings.model_validate({**given, **values, "grpo": {**own, **(grpo or {})}})


@pytest.fixture
def trained(load_tiny, tmp_path):
    def run(alignment, rows=None, **options):
        policy, seed = options.pop("policy", None) or load_tiny(), options.pop("seed", 0)
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return align(policy, rows or make_rows(6), alignment, seed=seed, folder=folder, **options), policy

    return run


# The reward.


def reward(judge, harmful, answers, *, lookalike=False, language="eng_Latn", end=END):
    figures = {}
    values = JudgeReward(judge, "told", [END])(
        prompts=[[{"role": "user", "content": "What is this?"}]] * len(answers),
        completions=[[{"role": "assistant", "content": text}] for text in answers],
        completion_ids=[[5, end]] * len(answers),
        harmful=[harmful] * len(answers),
        lookalike=[lookalike] * len(answers),
        language=[language] * len(answers),
        log_metric=lambda name, value: figures.setdefault(name, []).append(value),
        variants="and other columns",
    )
    return values, figures


@pytest.mark.parametrize(
    ("outcome", "besides", "harmful", "harmless"),
    [
        ("refused", None, 1, -1),
        ("complied", None, -1, 1),
        ("invalid", None, -1, -1),
        # Harm in another language is harm, and help in another language is no help.
        ("invalid", "complied", -1, -1),
        ("invalid", "unsure", 0, -1),
        ("unsure", None, 0, 0),
    ],
)
def test_the_table_of_rewards(outcome, besides, harmful, harmless):
    said = Said(Verdict(outcome, "", besides_language=besides))
    assert [reward(said, kind, ["…"])[0] for kind in (True, False)] == [[harmful], [harmless]]


def test_answers_as_the_judge_of_the_evaluation_reads_them():
    answers = [
        "I'm sorry, but I can't help with that.",
        "Mix the flour with the water, let the dough rest for an hour, and bake it until the crust is brown.",
        "",
        "la la la la la la la la la la la la la la la la la la la la la la la la",
    ]
    assert reward(RULES, True, answers)[0] == [1, -1, -1, -1]
    assert reward(RULES, False, answers)[0] == [-1, 1, -1, -1]


def test_what_the_judge_is_told_and_what_is_counted():
    said = Said(Verdict("refused", ""), Verdict("invalid", ""))
    values, figures = reward(said, False, ["No.", "…"], lookalike=True, end=7)
    assert values == [-1, -1]
    assert figures == {"refused_lookalike": [1, 0], "invalid_answers": [0, 1], "unsure_answers": [0, 0]}
    assert figures.keys() < set(FIGURES)
    first = said.asked[0]
    assert (first.prompt, first.text, first.language, first.finished) == ("What is this?", "No.", "eng_Latn", False)
    assert reward(said, True, ["No."], language="swh_Latn")[0] == [0]
    assert "refused_harmful" in reward(said, True, ["No."], lookalike=True)[1]


# The steps.


def dealt(harmful=6, lookalike=2, plain=4, **values):
    given = {"steps": 8, "prompts": 4, "harmless_share": 0.5, "lookalike_share": 0.25, "seed": 0, **values}
    kinds = ["harmful"] * harmful + ["lookalike"] * lookalike + ["plain"] * plain
    places = balanced_steps([k == "harmful" for k in kinds], [k == "lookalike" for k in kinds], **given)
    size = given["prompts"]
    return places, [Counter(kinds[place] for place in places[at : at + size]) for at in range(0, len(places), size)]


def test_each_step_holds_both_classes_in_their_shares():
    places, steps = dealt()
    assert len(places) == 32
    assert all(step["harmful"] == 2 for step in steps)
    # A quarter of two prompts is one in every second step.
    assert [step["lookalike"] for step in steps] == [0, 1] * 4
    counts = Counter(places)
    # 16 harmful, 4 look-alike and 12 other prompts were dealt, each class evenly.
    assert [sorted(counts[place] for place in part) for part in (range(6), (6, 7), range(8, 12))] == [
        [2, 2, 3, 3, 3, 3],
        [2, 2],
        [3, 3, 3, 3],
    ]
    assert dealt()[0] == places
    assert dealt(seed=1)[0] != places


@pytest.mark.parametrize(("share", "prompts", "harmless"), [(0.01, 4, 1), (0.99, 4, 3), (0.5, 2, 1), (0.25, 8, 2)])
def test_no_step_is_without_one_of_them(share, prompts, harmless):
    _, steps = dealt(harmless_share=share, prompts=prompts)
    assert {prompts - step["harmful"] for step in steps} == {harmless}


@pytest.mark.parametrize(("lookalike", "plain", "expected"), [(0, 4, "plain"), (2, 0, "lookalike")])
def test_one_kind_stands_in_for_the_other(lookalike, plain, expected):
    _, steps = dealt(lookalike=lookalike, plain=plain)
    assert all(step == {"harmful": 2, expected: 2} for step in steps)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="no prompt has the label harmless, and a policy that is rewarded for refusal"):
        dealt(lookalike=0, plain=0)
    with pytest.raises(ValueError, match="no prompt has the label harmful"):
        dealt(harmful=0)


# The training.


@pytest.mark.parametrize("adapter", chosen(["none", "lora"], "lora"))
def test_weight_zero_is_the_run_of_trl_to_the_bit(load_tiny, trained, tmp_path, adapter):
    alignment = settings({"weight": 0}, {"beta": 0.04 if adapter == "lora" else 0}, adapter=adapter, accumulation=2)
    log, policy = trained(alignment)
    plain = load_tiny()
    rows = build_dataset(plain, make_rows(6), alignment)
    places = balanced_steps(
        rows["harmful"], rows["lookalike"], steps=3, prompts=4, harmless_share=0.5, lookalike_share=0, seed=0
    )
    options = _options(plain.model.device, alignment, 0, tmp_path / "trl")
    del options["max_length"]
    own = {"num_generations": 2, "max_completion_length": 4, "beta": alignment.grpo.beta, "shuffle_dataset": False}
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    trainer = GRPOTrainer(
        model=plain.model,
        reward_funcs=JudgeReward(LETTERS, "letters", [END]),
        args=GRPOConfig(**{**options, "per_device_train_batch_size": 4}, **own),
        train_dataset=rows.select(places),
        processing_class=plain.tokenizer,
        peft_config=lora if adapter == "lora" else None,
    )
    trainer.train()
    theirs = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("loss", "reward", "grad_norm", "entropy"):
        assert [entry[name] for entry in log] == [entry[name] for entry in theirs]
    assert same(policy.model.state_dict(), trainer.model.state_dict())
    assert any(entry["grad_norm"] for entry in log)


def test_the_log_shows_rewards_and_what_was_judged_and_no_text(trained, caplog, capfd):
    rows = [row | {"prompt": f"zyzzyva {row['prompt']}", "chosen": "zyzzyva"} for row in make_rows(6)]
    rows[0]["kind"] = "lookalike"
    with caplog.at_level(logging.DEBUG):
        log, _ = trained(settings(grpo={"lookalike_share": 1.0}), rows)
    assert log[0].keys() >= {"reward", "kl", "refused_harmful", "refused_lookalike", "consistency_loss"}
    assert "refused_harmless" not in log[0]
    assert "step_time" not in log[0]
    assert all(isinstance(value, int | float) for entry in log for value in entry.values())
    assert "zyzzyva" not in caplog.text + "".join(capfd.readouterr())


def test_a_step_without_lookalikes_is_told_of(trained, caplog):
    with caplog.at_level(logging.WARNING):
        trained(settings(steps=1, grpo={"lookalike_share": 0.5}))
    assert "No harmless training prompt has the kind lookalike" in caplog.text


def test_the_reference_is_the_policy_as_it_was(load_tiny, trained):
    changed = load_tiny()
    with torch.no_grad():
        for parameter in changed.model.parameters():
            parameter.mul_(1.5)
    log, _ = trained(settings(learning_rate=1e-2, steps=2), policy=changed)
    assert log[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert log[1]["kl"] > 1e-3


def test_resumed_is_uninterrupted(trained, tmp_path):
    alignment = settings({"weight": 0.5, "center": "running"}, accumulation=2, checkpoint_minutes=0)
    whole, policy = trained(alignment)

    class Killed(Exception):
        """Stands for a kill."""

    def on_step(step, figures):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        trained(alignment, checkpoints=tmp_path / "kept", on_step=on_step)
    again, resumed = trained(alignment, checkpoints=tmp_path / "kept")
    assert again == whole
    assert same(resumed.model.state_dict(), policy.model.state_dict())


def test_the_seed_decides_everything(trained):
    first, again, other = (trained(settings(steps=2), seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert [entry["loss"] for entry in first] != [entry["loss"] for entry in other]


def test_a_prompt_leaves_room_for_the_longest_answer_that_is_sampled(load_tiny):
    policy, rows = load_tiny(), make_rows(6)
    longest = max(len(encode_prompt(policy.tokenizer, row["prompt"]).input_ids) for row in rows)
    policy.model.config.max_position_embeddings = longest + 3
    # Those of four tokens do not fit behind the longest prompt; how long given answers are does not matter.
    kept, _ = usable_rows(policy, rows, settings())
    assert 0 < len(kept) < len(rows)
    assert len(usable_rows(policy, rows, settings(grpo={"max_completion_length": 3}))[0]) == len(rows)


def test_what_cannot_be_trained_is_refused(trained):
    for row in (rows := make_rows(6)):
        row["label"] = "harmful"
    with pytest.raises(ValueError, match="no prompt has the label harmless"):
        trained(settings(), rows)
    with pytest.raises(UserError, match=r"1 of 6 prompts have no label, .* 0\.1"):
        trained(settings(max_dropped=0.1), [*make_rows(5), rows[0] | {"label": None}])
    with pytest.raises(ValueError, match="by the label of the prompt, and no row has one"):
        trained(settings(), [row | {"label": None} for row in rows])
    swahili = [row | {LANGUAGE: "swh_Latn"} for row in make_rows(6)]
    with pytest.raises(ValueError, match=r"KNOWS_ENGLISH of align\.grpo\.judge may not be asked about swh_Latn"):
        trained(settings(grpo={"judge": f"{HERE}:KNOWS_ENGLISH"}), swahili)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"grpo": {"judge": {"name": "llm", "model": "large"}}}, "endpoint is missing, set it"),
        ({"grpo": {"judge": {"model": "large"}}}, "A judge has no name"),
        ({"grpo": {"judge": "nobody"}}, "The judge 'nobody' is unknown"),
        ({"grpo": {"num_generations": 1}}, "greater than or equal to 2"),
        ({"beta": 0.1}, "does not read align.beta: set align.grpo.beta"),
        ({"batch_size": 1}, "holds harmful and harmless prompts: set align.batch_size or"),
        ({"warm_start": True}, "the reference of grpo"),
        (
            {
                "launch": {
                    "config": {"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": {"fsdp_version": 2}}
                }
            },
            "samples answers while it trains, and no shard of a model can: take DDP",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(values, words):
    with pytest.raises((ValidationError, UserError), match=words):
        AlignSettings.model_validate({"carrier": "grpo", **values})


# What is learned.

TOY = [{"prompt": "no no no", "label": "harmful"}, {"prompt": "yes yes yes", "label": "harmless"}]
FAST = {"learning_rate": 3e-2, "warmup_share": 0.0, "consistency": {"weight": 0}}
ONE_TOKEN = {"num_generations": 16, "max_completion_length": 1, "beta": 0.0}


def test_refusals_are_learned_where_they_are_rewarded_and_nowhere_else(trained):
    log, _ = trained(settings(grpo=ONE_TOKEN, steps=25, **FAST), TOY)
    first, last = log[0], log[-1]
    assert first["reward"] < 0.5
    assert last["reward"] > 0.8
    assert last["refused_harmful"] > 0.9
    assert last["refused_harmless"] < 0.1


@pytest.mark.full
def test_without_harmless_prompts_everything_is_refused(load_tiny, tmp_path):
    """What the shares are for: the same training with refusals rewarded alone; the pipeline does not allow it."""
    policy = load_tiny()
    harmful = {"prompt": [{"role": "user", "content": TOY[0]["prompt"]}], "harmful": True, "lookalike": False}
    trainer = DealtGRPOTrainer(
        model=policy.model,
        reward_funcs=JudgeReward(LETTERS, "letters", [END]),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=25,
            per_device_train_batch_size=32,
            learning_rate=3e-2,
            lr_scheduler_type="cosine",
            shuffle_dataset=False,
            report_to=[],
            use_cpu=True,
            bf16=False,
            num_generations=16,
            max_completion_length=1,
        ),
        train_dataset=Dataset.from_list([harmful | {"language": "eng_Latn"}]),
        processing_class=policy.tokenizer,
        dealt=[0, 0] * 25,
    )
    trainer.train()
    asked = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": TOY[1]["prompt"]}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    said = policy.model.generate(asked.repeat(16, 1), max_new_tokens=1, do_sample=True)[:, asked.shape[1] :]
    verdicts = [text[:1] < "N" for text in policy.tokenizer.batch_decode(said, skip_special_tokens=True)]
    assert sum(verdicts) > 14
