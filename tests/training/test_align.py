import json
import logging
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from mlc.errors import UserError
from mlc.methods import resolve_method
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.stopping import Stopped
from mlc.training.align import LOG_FILE, align, build_dataset, usable_rows
from mlc.training.settings import AlignSettings, ConsistencyConfig
from mlc.training.term import FIGURES
from tests.covering import chosen
from tests.training.runs import LANGUAGES, close, make_rows, same

CARRIERS = ["sft", "kl", "dpo", "simpo", "orpo"]


def settings(carrier="sft", steps=3, consistency=None, **values):
    return AlignSettings(
        carrier=carrier,
        teacher="shipped:tiny" if carrier == "kl" else None,
        steps=steps,
        batch_size=values.pop("batch_size", 3),
        learning_rate=values.pop("learning_rate", 1e-3),
        consistency=ConsistencyConfig.model_validate(consistency or {}),
        **values,
    )


@pytest.fixture
def run(load_tiny, tmp_path):
    def run(rows, alignment, seed=0, **options):
        policy = load_tiny()
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if alignment.carrier == "kl":
            options.setdefault("teacher", load_tiny())
        log = align(policy, rows, alignment, seed=seed, folder=folder, **options)
        return log, policy, folder

    return run


def series(log, name="alignment_loss"):
    return [entry[name] for entry in log]


# All carriers.


@pytest.mark.parametrize("carrier", CARRIERS)
def test_each_carrier_runs(rows, run, carrier):
    rows = [row | {"languages": LANGUAGES} for row in rows]
    log, policy, folder = run(rows, settings(carrier, consistency={"weight": 0.5, "language_weights": {"yor_Latn": 2}}))
    assert [entry["step"] for entry in log] == [1, 2, 3]
    for entry in log:
        assert {"loss", "alignment_loss", "learning_rate", "grad_norm", *FIGURES} <= entry.keys()
        assert all(isinstance(value, int | float) for value in entry.values())
        assert entry["loss"] == pytest.approx(entry["alignment_loss"] + 0.5 * entry["consistency_loss"], rel=1e-4)
    assert [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()] == log
    assert not policy.model.training


@pytest.mark.parametrize("carrier", chosen(CARRIERS, "kl", "dpo"))
def test_weight_zero_does_not_look_at_variants(rows, run, carrier):
    log, policy, _ = run(rows, settings(carrier, consistency={"weight": 0}))
    bare = [row | {"variants": None, "label": None} for row in rows]
    log_of_bare, policy_of_bare, _ = run(bare, settings(carrier, consistency={"weight": 0}))
    assert log == log_of_bare
    assert same(policy.model.state_dict(), policy_of_bare.model.state_dict())
    assert series(log) == series(log, "loss")
    assert not any(name in entry for entry in log for name in FIGURES)


def test_a_weight_changes_the_outcome(rows, run):
    plain, plain_policy, _ = run(rows, settings(consistency={"weight": 0}))
    pulled, pulled_policy, _ = run(rows, settings())
    assert series(pulled)[0] == series(plain)[0]
    assert series(pulled)[1:] != series(plain)[1:]
    assert not same(pulled_policy.model.state_dict(), plain_policy.model.state_dict())


def test_training_on_the_term_alone_lowers_it(rows, run):
    # The whole set is one batch, so that every step measures the same prompts.
    log, _, _ = run(rows, settings(steps=8, batch_size=6, consistency={"weight": 50.0}))
    values = series(log, "consistency_loss")
    assert values[-1] < 0.8 * values[0]


def test_an_accumulated_step_is_one_step(rows, run):
    whole, _, _ = run(rows, settings(batch_size=6))
    split, _, _ = run(rows, settings(batch_size=2, accumulation=3))
    for name in ("loss", "consistency_loss", "grad_norm"):
        assert series(split, name) == pytest.approx(series(whole, name), rel=1e-3)


@pytest.mark.parametrize("values", [{"autocast": "bfloat16"}, {"gradient_checkpointing": True}])
def test_cheaper_training_is_nearly_the_same(rows, run, values):
    plain, _, _ = run(rows, settings())
    cheap, policy, _ = run(rows, settings(**values))
    tolerance = 0.02 if "autocast" in values else 1e-4
    for name in ("loss", "consistency_loss"):
        assert series(cheap, name) == pytest.approx(series(plain, name), rel=tolerance)
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("stops", [False, True])
def test_a_policy_answers_in_its_own_precision_after_mixed_training(rows, load_tiny, tmp_path, stops):
    policy, plain, teacher = load_tiny(), load_tiny(), load_tiny()
    with pytest.raises(Stopped) if stops else nullcontext():
        alignment = settings("kl", steps=2, autocast="bfloat16", consistency={"weight": 0})
        align(policy, rows, alignment, seed=0, folder=tmp_path, teacher=teacher, should_stop=lambda: stops)
    plain.model.load_state_dict(policy.model.state_dict())
    ids = torch.tensor([policy.tokenizer("How do swallows find south?")["input_ids"]])
    assert torch.equal(policy.model(ids).logits, plain.model(ids).logits)
    own = [name for one in (policy, teacher) for name in vars(one.model) if "forward" in name]
    assert own == [name for one in (plain, plain) for name in vars(one.model) if "forward" in name]


@pytest.mark.parametrize("values", [{"autocast": "bfloat16"}, {"gradient_checkpointing": True}])
def test_all_terms_stand_cheaper_training(rows, run, values):
    def figures(**more):
        log, _, _ = run(rows, settings(**more).with_terms("consistency", "decision", "answer"))
        return [value for name in ("loss", "decision_loss", "answer_loss") for value in series(log, name)]

    tolerance = 0.05 if "autocast" in values else 1e-3
    assert figures(**values) == pytest.approx(figures(), rel=tolerance, abs=1e-4)


@pytest.mark.parametrize("form", ["cosine", "released"])
def test_weights_in_bfloat16(rows, tmp_path, form):
    policy = load_policy(resolve_model("shipped:tiny"), dtype=torch.bfloat16, device="cpu")
    alignment = settings(consistency={"form": form}, training_dtype="bfloat16")
    log = align(policy, rows, alignment, seed=0, folder=tmp_path)
    assert all(np.isfinite(value) for entry in log for value in entry.values())
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.bfloat16}


# The reference, the teacher, and the policy afterwards.


def test_the_reference_stays_what_the_policy_was(rows, run):
    # The first step has a learning rate of 0, so that it is still the same there: log 2 for every pair.
    log, _, _ = run(rows, settings("dpo", steps=8, batch_size=6, consistency={"weight": 0}, warmup_share=0.5))
    assert series(log)[0] == pytest.approx(np.log(2), abs=1e-6)
    assert series(log)[-1] < 0.6


def test_cross_entropy_beside_dpo_is_that_of_the_chosen_answers(rows, run):
    # One prompt a batch, so that a mean over its tokens is one number; the preference begins at ln 2.
    given = {"consistency": {"weight": 0}, "batch_size": 1, "steps": 1}
    (plain,), (cross,) = (series(run(rows[:1], settings(carrier, **given))[0], "loss") for carrier in ("dpo", "sft"))
    (both,) = series(run(rows[:1], settings("dpo", nll_weight=0.25, **given))[0], "loss")
    assert plain == pytest.approx(np.log(2), abs=1e-4)
    assert both == pytest.approx(plain + 0.25 * cross, abs=1e-3)
    with pytest.raises(ValueError, match="nll_weight stands beside dpo, not beside sft"):
        settings("sft", nll_weight=0.25)


def test_kl_needs_its_teacher_and_leaves_it_alone(rows, run, load_tiny):
    with pytest.raises(ValueError, match="the carrier kl needs a teacher"):
        run(rows, settings("kl"), teacher=None)
    teacher = load_tiny()
    log, _, _ = run(rows, settings("kl", consistency={"weight": 0}), teacher=teacher)
    # It is the same model, so there is nothing to learn.
    assert series(log)[0] == 0.0
    close(teacher.model.state_dict(), load_tiny().model.state_dict(), 0.0)


@pytest.mark.parametrize("carrier", chosen(CARRIERS, "kl", "simpo"))
def test_the_policy_answers_as_its_saved_weights_do(rows, run, tmp_path, carrier):
    _, policy, _ = run(rows, settings(carrier, consistency={"form": "released", "dim": 8}))
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    saved = load_policy(resolve_model(str(tmp_path / "saved")), device="cpu")
    ids = torch.tensor([policy.tokenizer("How do swallows find south?")["input_ids"]])
    with torch.no_grad():
        ours, theirs = (one.model(ids) for one in (policy, saved))
    assert torch.equal(ours.logits, theirs.logits)
    assert saved.model.state_dict().keys() == policy.model.state_dict().keys()
    answers = [one.model.generate(ids, max_new_tokens=4, do_sample=False) for one in (policy, saved)]
    assert torch.equal(*answers)


# Seeds.

RANDOM = {"form": "released", "dim": 8, "layer": 2, "control": "shuffled"}


def test_the_seed_decides_everything(rows, run):
    runs = []
    for seed, caller in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(caller)
        random.seed(caller)
        np.random.seed(caller)
        runs.append(run(rows, settings(consistency=RANDOM), seed))
    first, again, other = runs
    assert first[0] == again[0]
    assert same(first[1].model.state_dict(), again[1].model.state_dict())
    assert series(first[0]) != series(other[0])
    assert series(first[0], "consistency_loss") != series(other[0], "consistency_loss")


def test_what_the_caller_holds_stays_as_it_is(rows, run):
    before = json.dumps(rows)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    run(rows, settings(consistency=RANDOM, steps=1))
    assert json.dumps(rows) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), states[2], strict=True))


# The log.


def test_each_step_is_reported(rows, run):
    told = []
    log, _, _ = run(rows, settings(), on_step=lambda step, figures: told.append((step, figures)))
    assert [step for step, _ in told] == [1, 2, 3]
    for (_, figures), entry in zip(told, log, strict=True):
        assert {"step": entry["step"], **{k: v for k, v in figures.items() if k != "epoch"}} == entry


def test_no_text_of_a_prompt_is_told(run, caplog, capfd):
    rows = [row | {"prompt": f"zyzzyva {row['prompt']}", "chosen": "zyzzyva"} for row in make_rows(6)]
    rows[1]["variants"][1] = rows[2]["prompt"] = "zyzzyva " * 300
    with caplog.at_level(logging.DEBUG):
        run(rows, settings())
    assert "zyzzyva" not in caplog.text + "".join(capfd.readouterr())


def test_nothing_is_printed(rows, run, capfd):
    run(rows, settings(steps=1))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("term", ["consistency", "decision", None])
def test_a_training_that_diverges_is_told_of_where_it_does(rows, run, term):
    weights = {name: {"weight": float(name == term)} for name in ("consistency", "decision")}
    diverging = settings(steps=4, learning_rate=1e9, warmup_share=0.0, **weights)
    with pytest.raises(UserError, match=r"diverged: at step [234] of 4 .* Lower align\.learning_rate, which is 1e\+09"):
        run(rows, diverging)


# What rows may lack.


def test_long_prompts_are_left_out_and_counted(rows, run):
    without, expected, _ = run(rows[:2] + rows[3:], settings(steps=2))
    rows[2]["prompt"] = "very " * 300
    counts = []
    long, policy, _ = run(rows, settings(steps=2), on_left_out=counts.extend)
    told = [count.sentence for count in counts if count.rows]
    assert told == ["1 of 6 prompts are longer than 256 tokens"]
    assert long == without
    assert same(policy.model.state_dict(), expected.model.state_dict())


def test_what_the_policy_cannot_read_with_its_answer_is_too_long_whatever_is_configured(rows, run, load_tiny):
    context = load_tiny().model.config.max_position_embeddings
    rows[2]["prompt"] = "very " * context
    alignment, counts = settings(steps=1, max_prompt_tokens=100 * context), []
    run(rows, alignment, on_left_out=counts.extend)
    told = [count.sentence for count in counts if count.rows]
    assert told == [f"1 of 6 prompts are longer than {context - alignment.max_answer_tokens} tokens"]
    with pytest.raises(ValueError, match=f"reads at most {context} tokens at once, and align.max_answer_tokens"):
        run(rows, settings(steps=1, max_answer_tokens=context))


@pytest.mark.parametrize("lacking", ["prompt", "rejected"])
def test_too_little_to_train_on_is_refused_before_training(rows, run, lacking):
    for row in rows[:2]:
        row[lacking] = {"prompt": "very " * 300, "rejected": ""}[lacking]
    carrier, steps = {"prompt": "sft", "rejected": "dpo"}[lacking], []
    with pytest.raises(UserError, match=r"2 of 6 prompts .* more than the share of 0.3 .* align\.max_dropped"):
        run(rows, settings(carrier, steps=1, max_dropped=0.3), on_step=lambda step, figures: steps.append(step))
    assert not steps
    run(rows, settings(carrier, steps=1, max_dropped=0.4), on_step=lambda step, figures: steps.append(step))
    assert steps == [1]


def test_too_many_texts_of_the_term_that_cannot_be_used_are_refused(rows, run):
    for row in rows[:4]:
        row["variants"][1] = "very " * 300
    alignment = settings(steps=1, max_dropped=0.2)
    with pytest.raises(UserError, match="4 of 18 texts of the term are longer than 256 tokens"):
        run(rows, alignment)
    # Without the term nobody needs them.
    run(rows, alignment.without_consistency())


def test_answers_that_are_cut_are_counted_and_refuse_nothing(rows, run):
    counts = []
    run(rows, settings(steps=1, max_answer_tokens=3, max_dropped=0), on_left_out=counts.extend)
    assert [(count.what, count.rows, count.of) for count in counts if count.rows] == [("answers", 6, 6)]


def test_no_prompt_that_is_short_enough(rows, run):
    with pytest.raises(ValueError, match="none of the 6 prompts has at most 8 tokens"):
        run(rows, settings(max_prompt_tokens=8))


@pytest.mark.parametrize("carrier", ["dpo", "simpo", "orpo"])
def test_carriers_that_compare_need_rejected_answers(rows, run, tiny_policy, carrier):
    rows[1].pop("rejected")
    rows[4]["rejected"] = None
    usable, counts = usable_rows(tiny_policy, rows, settings(carrier))
    assert len(build_dataset(tiny_policy, usable, settings(carrier))) == 4
    assert [count.sentence for count in counts if count.rows] == ["2 of 6 prompts have no rejected answer"]
    for row in rows:
        row["rejected"] = ""
    with pytest.raises(ValueError, match=f"the carrier {carrier} needs rejected answers, and no row has one"):
        run(rows, settings(carrier))


# The rows as TRL reads them.


@pytest.mark.parametrize("limit", [1, 3, 6])
@pytest.mark.parametrize("carrier", ["sft", "dpo"])
def test_long_answers_are_cut(rows, tiny_policy, limit, carrier):
    tokenizer = tiny_policy.tokenizer
    data = build_dataset(tiny_policy, rows, settings(carrier, max_answer_tokens=limit))
    for row, read in zip(rows, data, strict=True):
        for name, column in (("chosen", "completion" if carrier == "sft" else "chosen"), ("rejected", "rejected")):
            if column in read:
                (answer,) = read[column]
                kept = tokenizer(answer["content"], add_special_tokens=False)["input_ids"]
                whole = tokenizer(row[name], add_special_tokens=False)["input_ids"]
                assert kept == whole[:limit]
                assert answer["role"] == "assistant"


def test_rows_keep_what_the_term_needs(rows, tiny_policy):
    rows = [row | {"languages": list(LANGUAGES), "variant_weights": [1.0, 0.5, 0.25]} for row in rows]
    data = build_dataset(tiny_policy, rows, settings())
    assert set(data.column_names) == {
        "prompt",
        "completion",
        "variants",
        "languages",
        "variant_label",
        "variant_weights",
    }
    assert data["variants"][0] == rows[0]["variants"]
    plain = build_dataset(tiny_policy, rows, settings(consistency={"weight": 0}))
    assert set(plain.column_names) == {"prompt", "completion"}


def test_without_a_template_rows_are_bare_texts(rows, load_tiny, tmp_path):
    policy = load_tiny()
    policy.tokenizer.chat_template = None
    data = build_dataset(policy, rows, settings())
    assert data["prompt"][0] == rows[0]["prompt"]
    assert data["completion"][0] == rows[0]["chosen"]
    log = align(policy, rows, settings(), seed=0, folder=tmp_path)
    assert all("consistency_loss" in entry for entry in log)


@pytest.mark.parametrize("more", [{}, {"adapter": {"r": 2}}, {"autocast": "bfloat16"}, {"carrier": "dpo"}], ids=str)
def test_a_teacher_from_the_start_stays_there(rows, load_tiny, tmp_path, more):
    def losses(teacher, *, packs=True):
        given = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "answer": {"teacher": teacher}, **more}
        policy = load_tiny()
        if not packs:
            policy.model.config.sliding_window = 8
        alignment = resolve_method("answer").alignment(AlignSettings.model_validate(given))
        return [entry["answer_loss"] for entry in align(policy, rows, alignment, seed=0, folder=tmp_path)]

    start, own = losses("start"), losses("self")
    assert start[0] == pytest.approx(own[0], rel=1e-3)
    # Later on the policy is another one, and its start is not.
    assert start[1:] != pytest.approx(own[1:], rel=1e-2)
    assert losses("start", packs=False) == pytest.approx(start, rel=2e-2 if "autocast" in more else 1e-3)
