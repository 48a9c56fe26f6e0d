import copy
import json
import logging

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import UserError
from mlc.models.continuations import answer_tokens
from mlc.training.preparation import nothing_to_read, permutation, prepare_variants, variants_of
from mlc.training.settings import AnswerConfig, ConsistencyConfig, Terms


def prepare(rows, tokenizer, seed=0, **config):
    return prepare_variants(
        Dataset.from_list(rows), tokenizer, Terms(ConsistencyConfig.model_validate(config)), seed=seed
    )


def texts(prepared, tokenizer):
    """What the variants of each row say; None where one is missing."""
    return [
        [None if one is None else tokenizer.decode(one.input_ids) for one in variants_of(row).prompts]
        for row in prepared.dataset
    ]


def turn(text):
    return f"<|start|>user\n{text}<|end|>\n<|start|>assistant\n"


def user(text):
    return [{"role": "user", "content": text}]


# Shapes of the column.


def test_a_list_with_english_first(tiny_policy):
    prepared = prepare([{"variants": ["Hello", "Jambo"]}, {"variants": ["Thanks", "Asante"]}], tiny_policy.tokenizer)
    assert texts(prepared, tiny_policy.tokenizer) == [
        [turn("Hello"), turn("Jambo")],
        [turn("Thanks"), turn("Asante")],
    ]
    assert prepared.languages == ("0", "1")
    assert "variants" not in prepared.dataset.column_names


@pytest.mark.parametrize("english", ["eng_Latn", "en", "eng", "English"])
def test_a_mapping_has_english_wherever_it_stands(tiny_policy, english):
    rows = [{"variants": {"swh_Latn": "Jambo", english: "Hello", "yor_Latn": None}}]
    prepared = prepare(rows, tiny_policy.tokenizer)
    assert prepared.languages == (english, "swh_Latn", "yor_Latn")
    assert texts(prepared, tiny_policy.tokenizer) == [[turn("Hello"), turn("Jambo"), None]]


def test_a_column_names_the_languages_of_a_list(tiny_policy):
    rows = [{"variants": ["Hello", "Jambo"], "languages": ["eng_Latn", "swh_Latn"]}]
    prepared = prepare(rows, tiny_policy.tokenizer)
    assert prepared.languages == ("eng_Latn", "swh_Latn")
    assert "languages" not in prepared.dataset.column_names


def test_other_columns_stay(tiny_policy):
    rows = [{"variants": ["Hello", "Jambo"], "prompt": user("Hello"), "completion": user("Hi"), "source": "mine"}]
    prepared = prepare(rows, tiny_policy.tokenizer)
    assert {"prompt", "completion", "source"} <= set(prepared.dataset.column_names)
    assert prepared.dataset[0]["prompt"] == rows[0]["prompt"]


# What becomes of a text.


def test_messages_go_through_the_template(tiny_policy):
    rows = [{"prompt": user("Hello"), "variants": [user("Hello"), user("Jambo"), None]}]
    assert texts(prepare(rows, tiny_policy.tokenizer), tiny_policy.tokenizer) == [[turn("Hello"), turn("Jambo"), None]]


def test_texts_become_turns_beside_a_conversation(tiny_policy):
    rows = [{"prompt": user("Hello"), "variants": ["Hello", "Jambo"]}]
    assert texts(prepare(rows, tiny_policy.tokenizer), tiny_policy.tokenizer) == [[turn("Hello"), turn("Jambo")]]


def test_texts_stay_bare_beside_a_bare_prompt(tiny_policy):
    rows = [{"prompt": "Hello", "completion": " Hi", "variants": ["Hello", "Jambo"]}]
    assert texts(prepare(rows, tiny_policy.tokenizer), tiny_policy.tokenizer) == [["Hello", "Jambo"]]


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_text_is_masked(tiny_policy, missing):
    prepared = prepare([{"variants": ["Hello", missing, "Ẹ káàsán"]}], tiny_policy.tokenizer)
    assert texts(prepared, tiny_policy.tokenizer) == [[turn("Hello"), None, turn("Ẹ káàsán")]]


def test_long_texts_are_masked_and_counted_but_never_told(tiny_policy, caplog, capfd):
    rows = [
        {"variants": ["Hello", "forbidden " * 40, None]},
        {"variants": ["forbidden " * 40, "Asante", "Ẹ ṣé"]},
        {"variants": ["Thanks", "Asante", None]},
    ]
    with caplog.at_level(logging.DEBUG):
        prepared = prepare(rows, tiny_policy.tokenizer, max_tokens=60)
    first, second, _ = texts(prepared, tiny_policy.tokenizer)
    assert [first, second] == [[turn("Hello"), None, None], [None, turn("Asante"), turn("Ẹ ṣé")]]
    assert (prepared.left_out.rows, prepared.left_out.of, prepared.left_out.limit) == (2, 7, 60)
    # Each has English or a translation, and none has both: the terms would do nothing, and nobody would know.
    with pytest.raises(ValueError, match="no prompt can be used beside a translation of it: 2 of the 5 variants"):
        prepare(rows[:2], tiny_policy.tokenizer, max_tokens=60)
    assert "forbidden" not in caplog.text + "".join(capfd.readouterr())


def test_a_blank_text_counts_only_where_no_text_of_its_own_is_asked_for(tiny_policy):
    rows = [{"variants": ["Hello", "  ", "Asante"]}]
    assert texts(prepare(rows, tiny_policy.tokenizer, pool="last_content"), tiny_policy.tokenizer)[0][1] is None
    assert texts(prepare(rows, tiny_policy.tokenizer, pool="last"), tiny_policy.tokenizer)[0][1] == turn("  ")


def test_variants_of_which_none_can_be_used(tiny_policy):
    changing = copy.deepcopy(tiny_policy.tokenizer)
    changing.chat_template = "{{ messages[0]['content'] | upper }}!"
    rows = [{"variants": ["hello", "habari"]}]
    with pytest.raises(ValueError, match=r"2 of the 2 variants are longer .*changed by the chat template"):
        prepare(rows, changing, pool="last_content")
    assert all(texts(prepare(rows, changing, pool="last"), changing)[0])
    with pytest.raises(ValueError, match="2 of the 2 variants are longer than 3 tokens"):
        prepare(rows, tiny_policy.tokenizer, pool="last", max_tokens=3)


def test_missing_texts_are_no_long_ones(tiny_policy):
    assert prepare([{"variants": ["Hello", "", None]}], tiny_policy.tokenizer).left_out.rows == 0


def test_what_leaves_a_term_nothing_to_read_is_told(tiny_policy):
    rows = [
        {"variants": ["Hello", "Jambo"], "label": "harmless", "completion": "Hi"},
        {"variants": ["Poison?", None], "label": "harmful", "completion": "No"},
    ]

    def kinds(some, **answer):
        terms = Terms(answer=AnswerConfig(weight=1.0, **answer))
        prepared = prepare_variants(Dataset.from_list(some), tiny_policy.tokenizer, terms, seed=0)
        return [count.kind for count in nothing_to_read(prepared.dataset, terms)]

    assert kinds(rows) == []
    assert kinds(rows, harmless="none") == ["no harmful pair"]
    assert kinds([rows[0] | {"label": "harmful"}], harmless="none") == []
    assert kinds(rows[1:]) == ["no pair"]


def test_weights_come_along(tiny_policy):
    rows = [
        {"variants": ["Hello", "Jambo"], "variant_weights": [1.0, 0.25]},
        {"variants": ["Thanks", "Asante"], "variant_weights": None},
    ]
    prepared = prepare(rows, tiny_policy.tokenizer)
    assert [variants_of(row).weights for row in prepared.dataset] == [(1.0, 0.25), None]


def test_weights_belong_to_the_languages_that_they_were_written_for(tiny_policy):
    rows = [{"variants": {"es": "Hola", "en": "Hello", "sw": "Jambo"}, "variant_weights": [0.25, 1.0, 0.5]}]
    prepared = prepare(rows, tiny_policy.tokenizer)
    assert prepared.languages == ("en", "es", "sw")
    assert [variants_of(row).weights for row in prepared.dataset] == [(1.0, 0.25, 0.5)]


@pytest.mark.parametrize("weight", [None, float("nan"), -1.0])
def test_weights_that_are_none_are_refused(tiny_policy, weight):
    rows = [{"variants": ["Hello", "Jambo"], "variant_weights": [1.0, weight]}]
    with pytest.raises(ValueError, match="variant_weights must be finite numbers"):
        prepare(rows, tiny_policy.tokenizer)


# Mistakes.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "Hello", "completion": "Hi"}], "needs a column 'variants' .*; it has prompt, completion"),
        ([{"variants": "Hello"}], "variants must be a list of texts or a mapping, not str"),
        ([{"variants": {"swh_Latn": "Jambo"}}], "variants must name English once, .* it names swh_Latn"),
        ([{"variants": {"en": "Hello", "eng_Latn": "Hello"}}], "variants must name English once"),
        (
            [{"variants": ["Hello", "Jambo"]}, {"variants": ["Thanks"]}],
            "in variants a prompt has 1 texts, and there are 2 languages",
        ),
        (
            [{"variants": ["Hello", "Jambo"], "languages": ["eng_Latn"]}],
            "languages names 1 languages, variants has 2 texts",
        ),
        (
            [
                {"variants": ["Hello", "Jambo", "Ẹ káàsán"], "languages": ["eng_Latn", "swh_Latn", "yor_Latn"]},
                {"variants": ["Thanks", "Ẹ ṣé", "Asante"], "languages": ["eng_Latn", "yor_Latn", "swh_Latn"]},
            ],
            "languages must be the same in every row",
        ),
        (
            [{"variants": ["Hello", "Jambo"], "variant_weights": [1.0]}],
            "variant_weights has 1 weights in one row, variants has 2 texts",
        ),
    ],
)
def test_mistakes_are_found_before_training(tiny_policy, rows, message):
    with pytest.raises(ValueError, match=message):
        prepare(rows, tiny_policy.tokenizer)


def test_a_language_that_the_first_row_lacks_is_not_dropped(tiny_policy):
    data = Dataset.from_list([{"variants": "{}"}, {"variants": '{"yor_Latn": "Ẹ ṣé"}'}])
    data.set_transform(
        lambda rows: {
            "variants": [{"en": "Hello", "swh_Latn": "Jambo"} | json.loads(text) for text in rows["variants"]]
        }
    )
    with pytest.raises(
        ValueError, match="in variants a prompt has a text in 'yor_Latn'; the languages are en, swh_Latn"
    ):
        prepare_variants(data, tiny_policy.tokenizer, Terms(ConsistencyConfig()), seed=0)


# Controls.

CONTROLS = ["shuffled", "shuffled_within_class"]


@given(
    labels=st.lists(st.sampled_from(["harmful", "harmless", "unknown"]), min_size=1, max_size=12),
    seed=st.integers(0, 5),
    control=st.sampled_from(CONTROLS),
)
def test_nobody_keeps_its_own_translations(labels, seed, control):
    if len(labels) == 1 or (control == "shuffled_within_class" and len(set(labels)) == len(labels)):
        with pytest.raises(UserError, match="would be the method itself"):
            permutation(labels, control, seed)
        return
    givers = permutation(labels, control, seed)
    assert sorted(givers) == list(range(len(labels)))
    for index, giver in enumerate(givers):
        group = labels.count(labels[index]) if control == "shuffled_within_class" else len(labels)
        assert (giver == index) == (group == 1)
        if control == "shuffled_within_class":
            assert labels[giver] == labels[index]


def table(labels, column="variant_label"):
    return [
        {
            column: label,
            "variants": [f"en {index}", f"x {index}", f"y {index}" if index % 2 else None],
            "variant_weights": [1.0, float(index), 0.5],
        }
        for index, label in enumerate(labels)
    ]


@settings(max_examples=10)
@given(
    labels=st.lists(st.sampled_from(["harmful", "harmless"]), min_size=3, max_size=6),
    seed=st.integers(0, 5),
    control=st.sampled_from(CONTROLS),
    column=st.sampled_from(["variant_label", "label"]),
)
def test_translations_move_together_and_english_stays(tiny_policy, labels, seed, control, column):
    rows = table(labels, column)
    before = copy.deepcopy(rows)
    prepared = prepare(rows, tiny_policy.tokenizer, seed=seed, control=control)
    assert rows == before
    for index, giver in enumerate(permutation(labels, control, seed)):
        assert texts(prepared, tiny_policy.tokenizer)[index] == [
            turn(f"en {index}"),
            turn(f"x {giver}"),
            turn(f"y {giver}") if giver % 2 else None,
        ]
        assert variants_of(prepared.dataset[index]).weights == (1.0, float(giver), 0.5)
    # The class under our own name is for the control alone; TRL would not know what to do with it.
    assert "variant_label" not in prepared.dataset.column_names


def test_our_own_label_goes_before_trls(tiny_policy):
    rows = [row | {"label": "same"} for row in table(["harmful", "harmless", "harmful", "harmless"])]
    prepared = prepare(rows, tiny_policy.tokenizer, control="shuffled_within_class")
    assert [row[1] for row in texts(prepared, tiny_policy.tokenizer)] == [turn(f"x {giver}") for giver in (2, 3, 0, 1)]


def test_within_class_differs_from_overall():
    labels = ["harmful", "harmless"] * 6
    assert any(labels[giver] != labels[index] for index, giver in enumerate(permutation(labels, "shuffled", 0)))


@pytest.mark.parametrize("labels", [["harmful", None], None])
def test_classes_need_labels(tiny_policy, labels):
    rows = [{"variants": ["Hello", "Jambo"]}, {"variants": ["Thanks", "Asante"]}]
    if labels:
        rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    with pytest.raises(UserError, match="'shuffled_within_class' needs a label for every prompt"):
        prepare(rows, tiny_policy.tokenizer, control="shuffled_within_class")
    crossed = texts(prepare(rows, tiny_policy.tokenizer, control="shuffled"), tiny_policy.tokenizer)
    assert [row[1] for row in crossed] == [turn("Asante"), turn("Jambo")]


@given(labels=st.lists(st.sampled_from(["harmful", "harmless"]), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_permuted_labels_swap_translations_between_the_classes(labels, seed):
    if len(set(labels)) == 1:
        with pytest.raises(UserError, match="would be the method itself"):
            permutation(labels, "permuted_labels", seed)
        return
    givers = permutation(labels, "permuted_labels", seed)
    assert sorted(givers) == list(range(len(labels))) != givers
    for index, giver in enumerate(givers):
        # One's own, or those of the other class.
        assert giver == index or labels[giver] != labels[index]


def test_permuted_labels_leave_nothing_of_the_class():
    labels = ["harmful", "harmless"] * 2000
    givers = permutation(labels, "permuted_labels", 0)
    right = sum(labels[giver] == label for giver, label in zip(givers, labels, strict=True))
    # Half of them by chance, give or take four standard deviations.
    assert abs(right / len(labels) - 0.5) < 0.04


def test_answers_and_classes_come_along(tiny_policy):
    rows = [row | {"completion": f"answer {number}"} for number, row in enumerate(table(["harmful", "harmless"]))]
    terms = Terms(answer=AnswerConfig(weight=1.0, tokens=4))
    dataset = prepare_variants(Dataset.from_list(rows), tiny_policy.tokenizer, terms, seed=0).dataset
    found = [variants_of(row) for row in dataset]
    assert [variants.harmful for variants in found] == [True, False]
    for number, variants in enumerate(found):
        assert variants.answer == answer_tokens(tiny_policy.tokenizer, f"answer {number}")[:4]


@pytest.mark.parametrize("column", ["variant_answer", "completion", "chosen"])
def test_an_answer_may_be_a_text_or_the_end_of_a_conversation(tiny_policy, column):
    terms = Terms(answer=AnswerConfig(weight=1.0))
    expected = answer_tokens(tiny_policy.tokenizer, "Sure")[:8]
    for answer in ("Sure", [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Sure"}]):
        rows = [{"variants": ["Hello", "Jambo"], column: answer}]
        prepared = prepare_variants(Dataset.from_list(rows), tiny_policy.tokenizer, terms, seed=0)
        assert variants_of(prepared.dataset[0]).answer == expected
        assert "variant_answer" not in prepared.dataset.column_names


def test_the_seed_decides():
    first, again, other = (permutation(["harmful"] * 10, "shuffled", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_row_without_any_variants_has_none(tiny_policy):
    rows = table(["harmful", "harmless"])
    data = Dataset.from_list([rows[0], rows[1] | {"variants": None}])
    dataset = prepare_variants(data, tiny_policy.tokenizer, Terms(consistency=ConsistencyConfig()), seed=0).dataset
    assert [variants_of(row).usable for row in dataset] == [True, False]


@pytest.mark.parametrize("column", ["variant_label", "label"])
def test_labels_of_prompts_do_not_reach_the_trainer(tiny_policy, column):
    data = Dataset.from_list(table(["harmful", "harmless"], column))
    dataset = prepare_variants(data, tiny_policy.tokenizer, Terms(consistency=ConsistencyConfig()), seed=0).dataset
    assert column not in dataset.column_names
    assert [variants_of(row).harmful for row in dataset] == [True, False]


def test_a_label_of_another_kind_is_the_trainers_own(tiny_policy):
    data = Dataset.from_list([row | {"label": True} for row in table(["harmful", "harmless"])])
    dataset = prepare_variants(data, tiny_policy.tokenizer, Terms(consistency=ConsistencyConfig()), seed=0).dataset
    assert "label" in dataset.column_names
