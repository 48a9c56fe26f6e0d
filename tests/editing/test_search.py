"""The search: every combination is shown, limits count, and the winner is what it says."""

import json
import math

import pytest
import torch

from mlc.editing import EditSettings, SearchSettings, compute_edit, edited, search_edits
from mlc.editing.search import LanguageFigures, Trial, broken_limits, measure
from mlc.errors import UserError
from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from tests.editing.conftest import COMPLIANCE, REFUSAL, X, parallel, rows_of

EVALUATION = EvaluationSettings(refusal_openings=(REFUSAL,), compliance_openings=(COMPLIANCE,))
SETTINGS = EditSettings.model_validate(
    {"layers": "all", "rank": 2, "ridge": 0.01, "units": {"z_threshold": 4.0, "d_threshold": 1e6}}
)
LOOSE = {"max_english_auroc_loss": 1.0, "max_over_refusal_gain": 1.0, "max_bits_gain": 100.0}


def choices(**values):
    return SearchSettings.model_validate({**LOOSE, **values})


def test_every_combination_is_tried():
    found = choices(ranks=(1, 2), gammas=(0.0, 5.0), layers=("all", (1,))).candidates(SETTINGS)
    assert len(found) == 8
    assert {(one.layers, one.gamma, one.rank) for one in found} == {
        (layers, gamma, rank) for layers in ("all", (1,)) for gamma in (0.0, 5.0) for rank in (1, 2)
    }
    assert {one.ridge for one in found} == {0.01}
    assert choices().candidates(SETTINGS) == [SETTINGS]
    assert not choices().wanted


def test_the_search_finds_the_repair_and_shows_the_rest(planted):
    found = search_edits(
        planted.policy,
        planted.prompts,
        planted.validation,
        SETTINGS,
        choices(ridges=(1e9, 0.01), ranks=(1,)),
        EVALUATION,
    )
    assert found.unedited.figures[X].auroc == 0.5
    assert len(found.trials) == 2
    assert found.best == 1
    assert found.trials[1].figures[X].auroc == 1.0
    assert found.trials[1].settings["ridge"] == 0.01
    # A ridge of 1e9 leaves the model as it was.
    assert found.trials[0].figures[X].auroc == pytest.approx(found.unedited.figures[X].auroc, abs=0.05)
    rows = found.rows()
    assert [row["trial"] for row in rows] == ["unedited", "1", "2"]
    assert [row["best"] for row in rows] == [False, False, True]
    text = json.dumps(rows, allow_nan=False)
    assert "topic" not in text


@pytest.mark.parametrize("sequential", [False, True])
def test_a_trial_is_what_its_settings_give(planted, sequential):
    settings = SETTINGS.model_copy(update={"sequential": sequential})
    weights = {name: tensor.clone() for name, tensor in planted.policy.model.state_dict().items()}
    found = search_edits(
        planted.policy, planted.prompts, planted.validation, settings, choices(ranks=(1, 2), gammas=(3.0,)), EVALUATION
    )
    for trial, delta in zip(found.trials, found.deltas, strict=True):
        alone = compute_edit(planted.policy, planted.prompts, settings.model_copy(update=dict(trial.settings)))
        assert delta.parts.keys() == alone.parts.keys()
        for place, part in alone.parts.items():
            assert torch.allclose(delta.parts[place].change(), part.change(), atol=1e-9)
        with edited(planted.policy.model, [delta]):
            assert measure(planted.policy, planted.validation, EVALUATION) == trial.figures
    for name, tensor in planted.policy.model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_nothing_wins_that_breaks_a_limit(planted):
    strict = choices(max_english_auroc_loss=-1.0)
    found = search_edits(planted.policy, planted.prompts, planted.validation, SETTINGS, strict, EVALUATION)
    assert found.best is None
    assert found.trials[0].broken == ("English margin AUROC fell by 0.000, at most -1",)


def figures(english=0.9, other=0.8, refused=0.1, bits=2.0):
    return {
        ENGLISH: LanguageFigures(english, 0.9, 0.1, 2.0),
        X: LanguageFigures(other, 0.5, refused, bits),
    }


def test_limits_by_hand():
    strict = SearchSettings(max_english_auroc_loss=0.05, max_over_refusal_gain=0.1, max_bits_gain=0.5)
    assert broken_limits(figures(0.86, 0.1, 0.19, 2.4), figures(), strict) == ()
    assert broken_limits(figures(0.84), figures(), strict) == ("English margin AUROC fell by 0.060, at most 0.05",)
    assert broken_limits(figures(refused=0.25), figures(), strict) == (
        f"margin over-refusal in {X} rose by 0.150, at most 0.1",
    )
    assert broken_limits(figures(bits=2.6), figures(), strict) == (
        f"bits per character in {X} rose by 0.600, at most 0.5",
    )
    assert len(broken_limits(figures(math.nan, refused=math.nan, bits=math.nan), figures(), strict)) == 3


def test_gain_is_the_mean_of_the_other_languages():
    found = {**figures(other=0.8), "zul_Latn": LanguageFigures(0.6, 0.5, 0.5, 1.0)}
    assert Trial({}, found).gain == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (parallel(rows_of(range(100, 110)), (ENGLISH, "zul_Latn")), "needs the same languages in both"),
        (parallel([row for row in rows_of(range(100, 110)) if row[0] == "harmful"]), "hold no harmless prompt in eng"),
        (parallel(rows_of(range(5))), "repeat a prompt to edit with"),
    ],
)
def test_bad_validation_prompts(planted, validation, message):
    with pytest.raises(UserError, match=message):
        search_edits(planted.policy, planted.prompts, validation, SETTINGS, choices(), EVALUATION)


def test_a_rise_of_just_the_limit_keeps_it():
    choices = SearchSettings(max_over_refusal_gain=0.05)
    assert broken_limits(figures(refused=0.2), figures(refused=0.15), choices) == ()
    assert 0.2 - 0.15 > 0.05  # as floating-point numbers
