import math

import pytest

from mlc.training.term import FIGURES
from tests.covering import dealt
from tests.training.runs import make_rows, term, train

WEIGHT = 0.5


def with_translations(*numbers):
    """Rows of which only these have translations."""
    rows = make_rows()
    for number, row in enumerate(rows):
        if number not in numbers:
            row["variants"][1:] = [None, ""]
    return rows


STEPPING = {
    "accumulated": {"gradient_accumulation_steps": 2},
    # Eight rows are four batches, so that the second step of an epoch has but one.
    "a short step": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
    "every second logged": {"logging_steps": 2, "max_steps": 4},
    "accumulated, every second logged": {"logging_steps": 2, "max_steps": 4, "gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize(("stepping", "carrier"), dealt(STEPPING, ["dpo", "grpo", "sft"]))
def test_the_loss_is_the_sum_of_its_parts(tmp_path, stepping, carrier):
    options = STEPPING[stepping]
    log = train(carrier, tmp_path, term(weight=WEIGHT), **options).log
    assert len(log) == (2 if "logging_steps" in options else 3)
    for entry in log:
        assert entry.keys() >= {"alignment_loss", *FIGURES}
        assert entry["loss"] == pytest.approx(entry["alignment_loss"] + WEIGHT * entry["consistency_loss"], rel=1e-5)
        assert 1 / 3 <= entry["centred_collinearity"] <= entry["collinearity"] <= 1 + 1e-6
        assert -1 - 1e-6 <= entry["between_prompt_cosine"] <= 1 + 1e-6


@pytest.mark.parametrize(("when", "batches"), dealt([(2, 0), (1, 3), (2, 2)], [1, 2]))
def test_lambda_is_that_of_the_step(tmp_path, when, batches):
    every, warmup = when
    consistency = term(weight=WEIGHT, every=every, warmup_steps=warmup)
    log = train("sft", tmp_path, consistency, max_steps=4, gradient_accumulation_steps=batches).log
    for step, entry in enumerate(log):
        weight = consistency.weight_at(step)
        # No figure of an earlier step is shown where the term is off.
        assert (weight > 0) == all(name in entry for name in FIGURES) == any(name in entry for name in FIGURES)
        total = entry["alignment_loss"] + weight * entry.get("consistency_loss", 0.0)
        assert entry["loss"] == pytest.approx(total, rel=1e-5)


def test_figures_of_several_steps_are_means_over_those_with_the_term(tmp_path):
    single = train("sft", tmp_path, term(every=2), max_steps=4).log
    double = train("sft", tmp_path, term(every=2), max_steps=4, logging_steps=2).log
    for pair, entry in ((single[:2], double[0]), (single[2:], double[1])):
        assert entry["alignment_loss"] == pytest.approx(sum(one["alignment_loss"] for one in pair) / 2, rel=1e-6)
        assert entry["consistency_loss"] == pytest.approx(pair[0]["consistency_loss"], rel=1e-6)
        assert entry["loss"] == pytest.approx(entry["alignment_loss"] + 0.5 * entry["consistency_loss"], rel=1e-6)


def test_a_step_without_translations_shows_no_figures(tmp_path):
    options = {"max_steps": 8, "per_device_train_batch_size": 1, "train_sampling_strategy": "sequential"}
    consistency = term(center="none", weight=WEIGHT)
    run = train("sft", tmp_path, consistency, rows=with_translations(2, 3, 7), **options)
    assert [number for number, entry in enumerate(run.log) if "consistency_loss" in entry] == [2, 3, 7]
    assert len(run.variants) == 3
    for entry in run.log:
        total = entry["alignment_loss"] + WEIGHT * entry.get("consistency_loss", 0.0)
        assert entry["loss"] == pytest.approx(total, rel=1e-6)
        # A single prompt has no other one to be compared with.
        assert "between_prompt_cosine" not in entry
        assert not any(math.isnan(value) for value in entry.values())


def test_without_any_translation_the_english_loss_is_left_and_it_is_told(tmp_path, caplog):
    with_term = train("sft", tmp_path, term(), rows=with_translations())
    told = "8 of 8 training prompts have no translation beside them, so that no term learns from any"
    assert [count.sentence for count in with_term.trainer.left_out if count.rows] == [told]
    assert f"{told}." in caplog.messages
    plain = train("sft", tmp_path, None, rows=with_translations())
    assert with_term.series() == plain.series() == with_term.series("alignment_loss")
    assert not any(name in entry for entry in with_term.log for name in FIGURES)


def test_a_second_training_begins_a_log_of_its_own(tmp_path):
    run = train("sft", tmp_path, term(weight=WEIGHT), max_steps=3)
    run.trainer.train()
    for entry in run.log[-3:]:
        assert entry["loss"] == pytest.approx(entry["alignment_loss"] + WEIGHT * entry["consistency_loss"], rel=1e-5)
