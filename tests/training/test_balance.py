"""Weights for languages: by temperature and by risk, against values by hand, and as a training takes them."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset

from mlc.errors import UserError
from mlc.losses import decision_loss
from mlc.losses.weights import mean_over_prompts
from mlc.stopping import Stopped
from mlc.training.align import align
from mlc.training.apart import set_aside
from mlc.training.balance import attack_success, weights_by_risk, weights_by_temperature
from mlc.training.preparation import HARMFUL, permutation, prepare_variants, with_prompts_apart
from mlc.training.settings import AlignSettings, DecisionConfig, Terms
from mlc.training.terms import TranslationTerms
from tests.training.runs import make_rows


@pytest.mark.parametrize(
    ("counts", "temperature", "weights"),
    [
        ([9, 4, 4], 1.0, [1.0, 1.0, 1.0]),
        ([9, 8, 2], 1.0, [1.0, 1.0, 1.0]),
        # 16 and 4 to the power of -1/2 are 1/4 and 1/2, with the mean 3/8.
        ([20, 16, 4], 2.0, [1.0, 2 / 3, 4 / 3]),
        # With no end to T, 1/16 and 1/4: each language counts as much in all.
        ([20, 16, 4], math.inf, [1.0, 0.4, 1.6]),
        ([20, 16, 4, 0], 2.0, [1.0, 2 / 3, 4 / 3, 0.0]),
        ([20, 0], 2.0, [1.0, 0.0]),
    ],
)
def test_weights_by_temperature(counts: list[int], temperature: float, weights: list[float]) -> None:
    torch.testing.assert_close(weights_by_temperature(counts, temperature), torch.tensor(weights))


def test_weights_by_risk() -> None:
    # .4 + .1 and 0 + .1 have the mean .3.
    found = weights_by_risk(torch.tensor([0.9, 0.4, 0.0]), 0.1)
    torch.testing.assert_close(found, torch.tensor([1.0, 5 / 3, 1 / 3]))
    # A language that was not measured weighs 1, and English always.
    found = weights_by_risk(torch.tensor([0.9, 0.4, math.nan, 0.0]), 0.1)
    torch.testing.assert_close(found, torch.tensor([1.0, 5 / 3, 1.0, 1 / 3]))
    torch.testing.assert_close(weights_by_risk(torch.tensor([0.1, 0.0, 0.0]), 0.1), torch.ones(3))


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_wrong_values_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="floor must be above 0"):
        weights_by_risk(torch.zeros(2), wrong)
    with pytest.raises(ValueError, match="temperature must be at least 1"):
        weights_by_temperature([1, 1], wrong)


def test_attack_success_by_hand() -> None:
    # English: harmful 3 and 5, harmless -2: the threshold is 1. Of two harmful prompts one is answered in the second
    # language, the only one in the third; harmless prompts do not count.
    margins = torch.tensor([[3.0, 0.0, 1.0], [5.0, 2.0, 9.0], [-2.0, -9.0, -9.0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    harmful = torch.tensor([True, True, False])
    assert attack_success(margins, mask, harmful).tolist() == [0.0, 0.5, 1.0]
    mask[0, 2] = False
    assert attack_success(margins, mask, harmful)[2].isnan()


def test_prompts_of_both_classes_are_set_aside() -> None:
    labels = [True] * 8 + [False] * 40 + [None]
    found = set_aside(labels, 16, seed=0)
    # Half of 16, and at most a quarter of a class.
    assert sum(labels[place] is True for place in found) == 2
    assert sum(labels[place] is False for place in found) == 8
    assert found == set_aside(labels, 16, seed=0) != set_aside(labels, 16, seed=1)
    with pytest.raises(UserError, match="3 are harmful: label more"):
        set_aside([True] * 3 + [False] * 8, 16, seed=0)


def settings(**balance: Any) -> AlignSettings:
    given = {"steps": 3, "batch_size": 2, "learning_rate": 1e-2, "consistency": {"layer": 2}, "balance": balance}
    return AlignSettings.model_validate(given)


def log_of(load_tiny: Any, folder: Any, rows: Any, **balance: Any) -> list[dict[str, float]]:
    folder.mkdir()
    return align(load_tiny(), rows, settings(**balance), seed=0, folder=folder)


def test_weights_of_a_training(load_tiny: Any, tmp_path: Any) -> None:
    rows = make_rows(12)
    equal = log_of(load_tiny, tmp_path / "equal", rows)
    one = log_of(load_tiny, tmp_path / "one", rows, weigh="temperature", temperature=1.0)
    # A temperature of 1 weighs all alike.
    assert [step["loss"] for step in one] == pytest.approx([step["loss"] for step in equal], rel=1e-5)
    risk = log_of(load_tiny, tmp_path / "risk", rows, weigh="risk", prompts=4, every=2)
    names = [name for name in risk[0] if name.startswith("weight_")]
    assert names
    measured = [[step[name] for name in names] for step in risk]
    # Measured before the first step and before the third.
    assert measured[0] == measured[1]
    assert measured[0][0] == 1.0
    assert not [name for name in equal[0] if name.startswith("weight_")]


@pytest.mark.parametrize("weigh", ["temperature", "risk"])
def test_terms_that_were_not_told_what_languages_weigh_by_are_refused(tiny_policy: Any, weigh: str) -> None:
    balance = settings(weigh=weigh).balance
    terms = TranslationTerms(
        Terms(decision=DecisionConfig(weight=1.0), balance=balance),
        tiny_policy.model,
        2,
        tokenizer=tiny_policy.tokenizer,
    )
    batch = terms.encode([["Hello", "Jambo"], ["Thanks", "Asante"]])
    with pytest.raises(ValueError, match=f"languages weigh by {weigh}, .* call weigh_by"):
        terms(tiny_policy.model, batch)
    if weigh == "temperature":
        terms.weigh_by([2, 2])
    else:
        terms.balance(torch.ones(2))
    assert terms(tiny_policy.model, batch) is not None


def test_a_training_that_goes_on_takes_the_weights_as_they_were_measured(load_tiny: Any, tmp_path: Any) -> None:
    rows, given = make_rows(12), settings(weigh="risk", prompts=4, every=3)
    given = given.model_copy(update={"steps": 4, "checkpoint_minutes": 0.0})
    whole = tmp_path / "whole"
    whole.mkdir()
    wanted = align(load_tiny(), rows, given, seed=0, folder=whole)
    folder, checkpoints, asked = tmp_path / "stopped", tmp_path / "checkpoints", iter([False, True])
    folder.mkdir()
    with pytest.raises(Stopped):
        align(load_tiny(), rows, given, seed=0, folder=folder, checkpoints=checkpoints, should_stop=lambda: next(asked))
    # It goes on between two estimates.
    found = align(load_tiny(), rows, given, seed=0, folder=folder, checkpoints=checkpoints)
    assert [entry["loss"] for entry in found] == [entry["loss"] for entry in wanted]
    assert found[-1] == pytest.approx(wanted[-1])


def test_the_risk_needs_labels(load_tiny: Any, tmp_path: Any) -> None:
    bare = [{name: value for name, value in row.items() if name != "label"} for row in make_rows(12)]
    with pytest.raises(UserError, match="0 are harmful: label more"):
        log_of(load_tiny, tmp_path / "bare", bare, weigh="risk")


def test_what_each_language_brings_to_a_loss() -> None:
    # Ten prompts; nine have the first translation alone, the last one has both.
    mask = torch.ones(10, 3, dtype=torch.bool)
    mask[:9, 2] = False
    shares = torch.where(mask[:, 1:], 1.0, 0.0)
    shares = (shares / shares.sum(dim=1, keepdim=True)).sum(dim=0)
    for temperature in (1.0, 5.0, 1e9):
        weights = weights_by_temperature([10.0, *shares.tolist()], temperature)
        margins = torch.zeros(10, 3, requires_grad=True)
        far = margins + torch.tensor([0.0, 1.0, 1.0])
        given = {"mask": mask, "language_weights": weights, "row_weights": None}
        mean_over_prompts(decision_loss(far, **given).loss, **given).backward()
        assert margins.grad is not None
        brought = margins.grad[:, 1:].sum(dim=0)
        wanted = shares ** (1 / temperature)
        torch.testing.assert_close(brought / brought.sum(), wanted / wanted.sum())


def test_a_prompt_counts_as_much_as_its_translations() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    losses = torch.tensor([1.0, 10.0, 100.0])
    quality = torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 0.2], [1.0, 0.0, 0.0]])
    found = mean_over_prompts(losses, mask, None, quality)
    torch.testing.assert_close(found, torch.tensor((0.5 * 1 + 0.6 * 10) / 3))
    # Languages count beside each other: twice the weight of all is the same.
    weights = torch.tensor([1.0, 1.0, 3.0])
    for scale in (1.0, 2.0):
        found = mean_over_prompts(losses, mask, scale * weights, None)
        torch.testing.assert_close(found, torch.tensor((0.5 * 1 + 1.0 * 10) / 3))
    assert mean_over_prompts(losses, mask, torch.zeros(3), None) == 0
    assert mean_over_prompts(losses, mask, None, None) == losses.mean()


def test_prompts_without_a_label_are_of_no_class(load_tiny: Any) -> None:
    rows = [row | {"label": row["label"] if number < 8 else None} for number, row in enumerate(make_rows() * 3)]
    data = Dataset.from_list([{name: row[name] for name in ("prompt", "variants", "label")} for row in rows])
    terms = Terms(decision=DecisionConfig(weight=1.0))
    prepared = prepare_variants(data, load_tiny().tokenizer, terms, seed=0)
    assert prepared.dataset[HARMFUL][:8] == [row["label"] == "harmful" for row in rows[:8]]
    assert set(prepared.dataset[HARMFUL][8:]) == {None}
    left, apart = with_prompts_apart(prepared, 4, 0)
    # Of four of each class one is taken, and of what has no label nothing.
    assert [variants.harmful for variants in apart].count(True) == 1
    assert len(apart) == 2
    assert list(left[HARMFUL]).count(None) == 16


def test_labels_that_are_all_the_same_cannot_be_dealt_anew() -> None:
    with pytest.raises(UserError, match="all 3 prompts are harmful"):
        permutation(["harmful"] * 3, "permuted_labels", 0)
