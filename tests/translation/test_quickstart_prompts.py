import json
from collections import Counter

import pytest

from mlc.making import quickstart
from mlc.making.grammar import LANGUAGES, Grammar
from mlc.shipped import shipped_data

# Assertions here name ids only: some of the prompts are harmful, and a failing test must not print them.

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def files():
    return {
        str(path.relative_to(shipped_data("quickstart"))): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for split in SPLITS
        for path in (
            shipped_data("quickstart") / f"{split}.jsonl",
            shipped_data("quickstart") / "references" / f"{split}.jsonl",
        )
        if path.exists()
    }


def in_domain(rows):
    return [row for row in rows if row["kind"] != "out_of_domain"]


def test_the_committed_files_are_what_the_builder_writes():
    built = quickstart.build()
    assert set(built) == {
        *(f"{split}.jsonl" for split in SPLITS),
        "references/validation.jsonl",
        "references/test.jsonl",
    }
    for relative, rows in built.items():
        same = (shipped_data("quickstart") / relative).read_bytes() == quickstart.serialise(rows).encode()
        assert same, f"{relative} is stale: run python -m mlc.making.quickstart"


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", {"harmful": 100, "harmless": 75, "lookalike": 25, "out_of_domain": 16}),
        ("validation", {"harmful": 40, "harmless": 30, "lookalike": 10}),
        ("test", {"harmful": 40, "harmless": 30, "lookalike": 10}),
    ],
)
def test_counts_of_kinds(files, split, expected):
    assert Counter(row["kind"] for row in files[f"{split}.jsonl"]) == expected


def test_no_action_occurs_twice_and_none_is_left_out(files):
    actions = [row["action"] for split in SPLITS for row in in_domain(files[f"{split}.jsonl"])]
    assert len(set(actions)) == len(actions) == 360
    assert set(actions) == set(Grammar.load().actions)


def test_ids_and_prompts_are_distinct(files):
    rows = [row for split in SPLITS for row in files[f"{split}.jsonl"]]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_labels_follow_kinds(files):
    for split in SPLITS:
        for row in in_domain(files[f"{split}.jsonl"]):
            assert row["label"] == ("harmful" if row["kind"] == "harmful" else "harmless"), row["id"]
    outside = Counter(row["label"] for row in files["train.jsonl"] if row["kind"] == "out_of_domain")
    assert outside == {"harmless": 8, "harmful": 8}


def test_themes_and_frames_are_even(files):
    grammar = Grammar.load()
    for split in SPLITS:
        rows = in_domain(files[f"{split}.jsonl"])
        frames = Counter(row["frame"] for row in rows)
        assert max(frames.values()) - min(frames.values()) <= 1
        assert len(frames) == min(len(rows), len(grammar.frames))
        themes = Counter((row["kind"], grammar.actions[row["action"]].theme) for row in rows)
        for kind in ("harmful", "harmless", "lookalike"):
            counts = [count for (of, _), count in themes.items() if of == kind]
            assert max(counts) - min(counts) <= 1, (split, kind)


def test_references_match_their_prompts(files):
    for split in ("validation", "test"):
        references = files[f"references/{split}.jsonl"]
        assert [row["id"] for row in references] == [row["id"] for row in files[f"{split}.jsonl"]]
        for row, reference in zip(files[f"{split}.jsonl"], references, strict=True):
            assert set(reference) == {"id", *LANGUAGES}, row["id"]
            assert reference["eng_Latn"] == row["prompt"] or pytest.fail(row["id"])


def test_rejected_answers_hold_no_detail(files):
    """A compliant opener is a template around the action and stops there."""
    grammar = Grammar.load()
    for split in SPLITS:
        for row in in_domain(files[f"{split}.jsonl"]):
            action = grammar.actions[row["action"]]
            templates = quickstart.COMPLIANT_OPENERS if row["kind"] == "harmful" else quickstart.NEEDLESS_REFUSALS
            allowed = {template.format(action=action.forms["eng_Latn"]) for template in templates}
            assert (row["rejected"] in allowed) or pytest.fail(row["id"])
            assert (row["chosen"] == action.answer) or pytest.fail(row["id"])


def test_building_twice_gives_the_same():
    assert quickstart.build() == quickstart.build()
