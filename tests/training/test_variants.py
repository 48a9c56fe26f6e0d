import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc.errors import UserError
from mlc.models.prompts import EncodedPrompt
from mlc.training.variants import AlignmentCollator, Example, build_examples, shuffle_variants


def prompt(*tokens):
    return EncodedPrompt(tokens, (True,) * len(tokens))


EXAMPLES = [
    Example(prompt(5, 6), (7, 2), (prompt(5, 6), prompt(8), prompt(9, 10, 11))),
    Example(prompt(3), (4, 4, 2), (prompt(3), None, None)),
    Example(prompt(12, 13, 14), (2,), (prompt(12, 13, 14), None, prompt(15))),
]


def test_a_batch_by_hand():
    batch = AlignmentCollator(0, 4)(EXAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2], [3, 4, 4, 2], [12, 13, 14, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1]] * 3
    assert batch["labels"].tolist() == [[-100, -100, 7, 2], [-100, 4, 4, 2], [-100, -100, -100, 2]]
    variants = batch["variants"]
    # The second prompt has no translation, so it does not take part.
    assert variants.mask.tolist() == [[True, True, True], [True, False, True]]
    assert variants.prompts.input_ids.tolist() == [[0, 5, 6], [0, 0, 8], [9, 10, 11], [12, 13, 14], [0, 0, 15]]
    assert variants.prompts.attention_mask.tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 1]]
    assert variants.prompts.content_mask.tolist() == variants.prompts.attention_mask.bool().tolist()


def test_answers_end_together_and_padding_is_no_label():
    batch = AlignmentCollator(99, 0)([Example(prompt(5), (6, 2), ()), Example(prompt(5, 5, 5), (7, 7, 2), ())])
    assert batch["input_ids"].tolist() == [[99, 99, 99, 5, 6, 2], [5, 5, 5, 7, 7, 2]]
    assert batch["attention_mask"].tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, -100, -100, 6, 2], [-100, -100, -100, 7, 7, 2]]
    assert "variants" not in batch


def test_a_label_may_equal_the_padding():
    batch = AlignmentCollator(2, 0)([Example(prompt(5), (2,), ()), Example(prompt(5, 5), (6, 2), ())])
    assert batch["labels"].tolist() == [[-100, -100, -100, 2], [-100, -100, 6, 2]]


@pytest.mark.parametrize(("limit", "prompts"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_only_so_many_prompts_bring_their_variants(limit, prompts):
    batch = AlignmentCollator(0, limit)(EXAMPLES)
    assert batch["labels"].shape[0] == 3
    assert (len(batch["variants"].mask) if prompts else 0) == prompts
    assert ("variants" in batch) == (prompts > 0)


def test_a_batch_in_which_nobody_has_a_variant():
    assert "variants" not in AlignmentCollator(0, 4)([EXAMPLES[1], EXAMPLES[1]])


def test_long_answers_do_not_pad_the_variants():
    long = Example(prompt(5), (6,) * 50, (prompt(5), prompt(7)))
    batch = AlignmentCollator(0, 4)([long])
    assert batch["input_ids"].shape == (1, 51)
    assert batch["variants"].prompts.input_ids.shape == (2, 1)


# Examples.


def build(rows, tokenizer, **changes):
    options = {"max_prompt_tokens": 256, "max_answer_tokens": 96, "with_variants": True, **changes}
    return build_examples(rows, tokenizer, 2, **options)


def test_examples_hold_prompt_answer_and_variants(rows, tiny_policy):
    tokenizer = tiny_policy.tokenizer
    examples = build(rows, tokenizer)
    assert (len(examples), examples.left_out) == (6, 0)
    for row, example in zip(rows, examples, strict=True):
        assert tokenizer.decode(example.prompt.input_ids) == (
            f"<|start|>user\n{row['prompt']}<|end|>\n<|start|>assistant\n"
        )
        assert example.answer[-1] == 2
        assert tokenizer.decode(example.answer[:-1]) == row["chosen"]
        assert example.variants[0] == example.prompt
        contents = [
            tokenizer.decode([t for t, own in zip(one.input_ids, one.content, strict=True) if own])
            for one in example.variants
        ]
        assert contents == row["variants"]


def test_a_masked_variant_is_missing(rows, tiny_policy):
    rows[0]["mask"] = [True, False, True]
    rows[0]["variants"][1] = None
    first = build(rows, tiny_policy.tokenizer)[0]
    assert [variant is not None for variant in first.variants] == [True, False, True]


def test_long_prompts_are_left_out_and_counted(rows, tiny_policy):
    tokenizer = tiny_policy.tokenizer
    rows[1]["prompt"] = rows[3]["prompt"] = "word " * 100
    length = len(build(rows, tokenizer)[1].prompt.input_ids)
    assert [build(rows, tokenizer, max_prompt_tokens=limit).left_out for limit in (length, length - 1)] == [0, 2]
    kept = build(rows, tokenizer, max_prompt_tokens=length - 1)
    assert [example.prompt for example in kept] == [build([rows[n]], tokenizer)[0].prompt for n in (0, 2, 4, 5)]


def test_a_long_variant_is_missing_and_its_prompt_stays(rows, tiny_policy):
    rows[0]["variants"][2] = "beta " * 200
    examples = build(rows, tiny_policy.tokenizer, max_prompt_tokens=128)
    assert (len(examples), examples.left_out) == (6, 0)
    assert [variant is not None for variant in examples[0].variants] == [True, True, False]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_long_answers_are_cut_and_still_end(rows, tiny_policy, limit):
    whole, cut = build(rows, tiny_policy.tokenizer), build(rows, tiny_policy.tokenizer, max_answer_tokens=limit)
    for long, short in zip(whole, cut, strict=True):
        assert short.answer == (*long.answer[: limit - 1], 2)


def test_without_variants_none_are_encoded(rows, tiny_policy):
    for row in rows:
        row["variants"] = None
    assert all(
        example.variants == (example.prompt,) for example in build(rows, tiny_policy.tokenizer, with_variants=False)
    )


# Controls.


def table(labels):
    return [
        {
            "label": label,
            "variants": [f"en {index}", f"x {index}", f"y {index}" if index % 2 else None],
            "mask": [True, True, bool(index % 2)],
        }
        for index, label in enumerate(labels)
    ]


def owner(row):
    return int(row["variants"][1].split()[1])


labels_lists = st.lists(st.sampled_from(["harmful", "harmless"]), min_size=1, max_size=12)


@given(labels_lists, st.integers(0, 5), st.sampled_from(["shuffled", "shuffled_within_class"]))
def test_shuffled_rows(labels, seed, control):
    rows = table(labels)
    before = copy.deepcopy(rows)
    shuffled = shuffle_variants(rows, control, seed)
    assert rows == before
    owners = [owner(row) for row in shuffled]
    assert sorted(owners) == list(range(len(rows)))
    for index, row in enumerate(shuffled):
        group = labels.count(labels[index]) if control == "shuffled_within_class" else len(rows)
        assert (owners[index] == index) == (group == 1)
        if control == "shuffled_within_class":
            assert labels[owners[index]] == labels[index]
        # English stays; the others come together, with their mask.
        assert row["variants"] == [f"en {index}", *before[owners[index]]["variants"][1:]]
        assert row["mask"] == [True, *before[owners[index]]["mask"][1:]]
        assert row["label"] == labels[index]


def test_within_class_differs_from_overall():
    rows = table(["harmful", "harmless"] * 6)
    crossed = [rows[owner(row)]["label"] != row["label"] for row in shuffle_variants(rows, "shuffled", 0)]
    assert any(crossed)


def test_classes_need_labels():
    rows = table(["harmful", None])
    with pytest.raises(UserError, match="'shuffled_within_class' needs a label for every prompt"):
        shuffle_variants(rows, "shuffled_within_class", 0)
    assert [owner(row) for row in shuffle_variants(rows, "shuffled", 0)] == [1, 0]


def test_no_control_changes_nothing():
    rows = table(["harmful", "harmless"])
    assert shuffle_variants(rows, "none", 0) == rows


def test_the_seed_decides():
    rows = table(["harmful"] * 10)
    first, again, other = (shuffle_variants(rows, "shuffled", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_batches_move_between_devices():
    variants = AlignmentCollator(0, 4)(EXAMPLES)["variants"].to("meta")
    assert variants.mask.device == variants.prompts.input_ids.device == torch.device("meta")
