"""Pairs of a model's own answers: which ones are chosen, and how they become a training set."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import mlc.models.consistent_pairs as pairs_module
from mlc.errors import UserError
from mlc.models.consistent_pairs import choose_pairs, consistent_pairs, nearest_and_farthest, reference_of
from mlc.models.sampling import own_answers
from mlc.stopping import Stopped
from mlc.store.lines import read_lines
from mlc.training.settings import AlignSettings
from mlc.training.translated import translated_rows

EAST, NORTH_EAST, NORTH, WEST = (torch.tensor(v) for v in ([1.0, 0.0], [2.0, 2.0], [0.0, 3.0], [-1.0, 0.0]))


def test_the_reference_is_closest_to_the_other_ones() -> None:
    # Mean cosines to the others: east .35, north-east .71, north .35.
    assert reference_of(torch.stack([EAST, NORTH_EAST, NORTH])) == 1
    assert reference_of(torch.stack([EAST])) == 0
    # Of two, both are as close: the first.
    assert reference_of(torch.stack([NORTH, EAST])) == 0


def test_the_nearest_is_chosen_and_the_farthest_rejected() -> None:
    assert nearest_and_farthest(torch.stack([NORTH, WEST, NORTH_EAST]), EAST) == (2, 1)
    # Lengths say nothing.
    assert nearest_and_farthest(torch.stack([100 * NORTH, 0.01 * NORTH_EAST]), EAST) == (1, 0)


def test_pairs_of_one_prompt_by_hand() -> None:
    texts = {0: ["e", "ne", "n"], 1: ["east", "west"], 2: ["same", "same"], 3: ["alone"]}
    states = {
        0: torch.stack([EAST, NORTH_EAST, NORTH]),
        1: torch.stack([WEST, EAST]),
        2: torch.stack([EAST, WEST]),
        3: torch.stack([EAST]),
    }
    found = choose_pairs(texts, states)
    # The reference is "ne": east and north are as far from it, and the first is rejected.
    assert found == {0: ("ne", "e"), 1: ("west", "east")}
    # Answers in English that agree are no pair, and the reference of the others.
    agreeing = {**states, 0: torch.stack([WEST, WEST, WEST])}
    assert choose_pairs({**texts, 0: ["w", "w", "w"]}, agreeing) == {1: ("east", "west")}
    assert choose_pairs({1: texts[1]}, states) == {}


def test_the_control_draws_both() -> None:
    texts = {0: ["a", "b"]}
    states = {0: torch.stack([EAST, WEST])}
    drawn = {choose_pairs(texts, states, random.Random(seed))[0] for seed in range(20)}
    assert drawn == {("a", "b"), ("b", "a")}


def rows() -> list[dict[str, Any]]:
    return [
        {"id": str(n), "prompt": text, "chosen": "given", "variants": [text, f"¿{text}?", ""]}
        for n, text in enumerate(["How do I bake bread", "Tell me of the sea"])
    ]


def test_own_answers_become_pairs_in_every_language(load_tiny: Any) -> None:
    policy = load_tiny()
    made = consistent_pairs(policy, rows(), answers=3, tokens=6, layer=0.5, seed=1)
    assert made
    for row in made:
        assert row["chosen"] != row["rejected"] or not row["chosen"]
        assert "given" not in (row["chosen"], row["rejected"])
        assert (row["variant_chosen"][0], row["variant_rejected"][0]) == (row["chosen"], row["rejected"])
        assert row["variant_chosen"][2] == row["variant_rejected"][2] == ""
    again = consistent_pairs(policy, rows(), answers=3, tokens=6, layer=0.5, seed=1)
    assert again == made
    settings = AlignSettings().with_own_pairs()
    translated = translated_rows(made, settings.translated, seed=0)
    assert {row["chosen"] for row in translated} == {row["variant_chosen"][1] for row in made} - {""}
    assert (settings.carrier, settings.nll_weight, settings.terms.active) == ("dpo", 0.2, {})


def test_sampling_that_was_stopped_goes_on_to_the_same_pairs(
    load_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "ANSWERED_TOGETHER", 4)
    policy, record, sampled = load_tiny(), tmp_path / "new" / "answers.jsonl", []
    given = {"answers": 3, "tokens": 6, "layer": 0.5, "seed": 1}
    whole = consistent_pairs(policy, rows(), **given)
    with pytest.raises(Stopped):
        consistent_pairs(policy, rows(), **given, record=record, should_stop=lambda: len(read_lines(record)) == 2)
    assert len(read_lines(record)) == 2
    calls = []
    monkeypatch.setattr(
        pairs_module, "own_answers", lambda *given, **named: calls.append(1) or own_answers(*given, **named)
    )
    state = torch.random.get_rng_state()
    assert consistent_pairs(policy, rows(), **given, record=record, on_answers=sampled.append) == whole
    assert (len(calls), sampled) == (1, [4, 4, 4])
    assert torch.equal(state, torch.random.get_rng_state())
    # What is of other arguments is another's.
    for other in ({"seed": 2}, {"tokens": 4}):
        found = consistent_pairs(policy, rows(), **{**given, **other}, record=str(record))
        assert found == consistent_pairs(policy, rows(), **{**given, **other}) != whole
    assert len(consistent_pairs(policy, rows()[:1], **given, record=record)) == 1


def test_a_model_that_says_nothing_has_nothing_to_prefer(load_tiny: Any) -> None:
    policy = load_tiny()
    (end,) = policy.stop_tokens

    def nothing_else(_module: Any, _given: Any, said: Any) -> None:
        likely = said.logits[..., end].clone()
        said.logits.fill_(-torch.inf)
        said.logits[..., end] = likely

    policy.model.register_forward_hook(nothing_else)
    with pytest.raises(UserError, match="None of the 2 training prompts gets two answers"):
        consistent_pairs(policy, rows(), answers=2, tokens=3, layer=0.5)


def test_the_control_has_a_pair_wherever_answers_differ() -> None:
    texts = {0: ["no", "no", "no", "yes"]}
    for seed in range(20):
        pair = choose_pairs(texts, {0: torch.eye(4)}, random.Random(seed))[0]
        assert sorted(pair) == ["no", "yes"]
