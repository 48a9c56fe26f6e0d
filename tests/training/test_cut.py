"""Answers that are cut: nothing teaches a model to end there, whatever the loss."""

from typing import Any

import pytest
from transformers import Trainer

from mlc.training.align import align
from mlc.training.cut import CUT, IGNORED, cut_answer, is_open, without_ends
from mlc.training.settings import AlignSettings

LONG = "Use baking soda and an acid such as yoghurt."
SHORT = "No."
LIMIT = 6


class Prepared(Exception):
    """The dataset is as the trainer reads it."""


def prepared(policy: Any, rows: Any, folder: Any, monkeypatch: pytest.MonkeyPatch, carrier: str) -> list[Any]:
    """The rows that a trainer would read, in their order."""
    held: list[Any] = []

    def look(self: Any, *args: Any, **kwargs: Any) -> None:
        held.extend(self.train_dataset)
        raise Prepared

    monkeypatch.setattr(Trainer, "train", look)
    settings = AlignSettings.model_validate({"steps": 1, "carrier": carrier, "max_answer_tokens": LIMIT})
    with pytest.raises(Prepared):
        align(policy, rows, settings, seed=0, folder=folder)
    return held


@pytest.fixture
def answered(rows: Any) -> Any:
    """The first row has a long chosen answer and a short rejected one, the second the other way round."""
    return [rows[0] | {"chosen": LONG, "rejected": SHORT}, rows[1] | {"chosen": SHORT, "rejected": LONG}]


def test_what_is_cut(load_tiny: Any) -> None:
    tokenizer = load_tiny().tokenizer
    ids = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    assert cut_answer(tokenizer, LONG, LIMIT) == tokenizer.decode(ids[:LIMIT])
    assert cut_answer(tokenizer, LONG, len(ids)) == LONG
    # One that fills all that is read may have been stopped there by whoever sampled it.
    assert [is_open(tokenizer, LONG, limit) for limit in (LIMIT, len(ids), len(ids) + 1)] == [True, True, False]


@pytest.mark.parametrize("carrier", ["sft", "orpo", "simpo"])
def test_labels_end_where_a_whole_answer_does(
    answered: Any, load_tiny: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, carrier: str
) -> None:
    policy = load_tiny()
    first, second = prepared(policy, answered, tmp_path, monkeypatch, carrier)
    column = "labels" if carrier == "sft" else "chosen_labels"
    told = [[token for token in row[column] if token != IGNORED] for row in (first, second)]
    assert len(told[0]) == LIMIT
    assert policy.stop_token not in told[0]
    assert policy.stop_token in told[1]
    assert CUT not in first
    if carrier != "sft":
        assert policy.stop_token in first["rejected_labels"]
        assert policy.stop_token not in second["rejected_labels"]


def test_answers_of_dpo_stop_before_their_end(
    answered: Any, load_tiny: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_tiny()
    first, second = prepared(policy, answered, tmp_path, monkeypatch, "dpo")
    assert len(first["chosen_ids"]) == len(second["rejected_ids"]) == LIMIT
    assert policy.stop_token in first["rejected_ids"]
    assert policy.stop_token in second["chosen_ids"]


def test_what_is_not_cut_is_as_it_was(
    rows: Any, load_tiny: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset

    plain = Dataset.from_list([{"labels": [1, 2]}])
    assert without_ends(plain, [2]) is plain
    # Of an answer of which nothing but its end is left, nothing is taken.
    only = Dataset.from_list([{"labels": [IGNORED, 2], CUT: ["completion"]}])
    assert without_ends(only, [2])["labels"][0] == [IGNORED, 2]
