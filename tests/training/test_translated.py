import random

import pytest

from mlc.errors import UserError
from mlc.training.align import align
from mlc.training.settings import AlignSettings, TranslatedSettings
from mlc.training.switching import switched
from mlc.training.translated import mixed_rows, translated_rows
from tests.training.runs import make_rows

HALF = TranslatedSettings(share=0.5)


def test_each_translation_gets_the_english_answer(rows):
    rows[1]["variants"][2] = ""
    made = translated_rows(rows[:2], HALF, seed=0)
    assert [row["prompt"] for row in made] == [*rows[0]["variants"][1:], rows[1]["variants"][1]]
    assert [row["chosen"] for row in made] == [rows[0]["chosen"]] * 2 + [rows[1]["chosen"]]
    assert all(row["rejected"] and row["label"] for row in made)
    # No term reads them.
    assert not any(text for row in made for text in row["variants"])


def test_translations_of_conversations_keep_their_own_turns(rows):
    talk = rows[0] | {"turns": "[0]", "variant_turns": ["[0]", None, "[2]"]}
    made = translated_rows([talk], HALF, seed=0)
    assert [row["turns"] for row in made] == [None, "[2]"]
    assert [row["variant_turns"] for row in made] == [None, None]


def test_each_translation_gets_its_own_answer_where_there_is_one(rows):
    with_answers = [
        row | {"variant_chosen": [row["chosen"], f"a {number}", ""], "variant_rejected": [row["rejected"], "r", "r"]}
        for number, row in enumerate(rows[:2])
    ]
    made = translated_rows(with_answers, HALF, seed=0)
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in made] == [
        (row["variants"][1], f"a {number}", "r") for number, row in enumerate(rows[:2])
    ]
    # Of a control, the prompts go to other rows and the answers stay in their language.
    swapped = translated_rows(with_answers, TranslatedSettings(share=0.5, control="shuffled"), seed=0)
    assert [(row["prompt"], row["chosen"]) for row in swapped] == [
        (rows[1]["variants"][1], "a 0"),
        (rows[0]["variants"][1], "a 1"),
    ]


def test_code_switching_leaves_answers_and_the_other_prompts(rows):
    none, some, every = (
        translated_rows(rows, TranslatedSettings(share=0.5, switched=share), seed=0) for share in (0.0, 0.5, 1.0)
    )
    plain = translated_rows(rows, HALF, seed=0)
    assert [row["prompt"] for row in none] == [row["prompt"] for row in plain]
    changed = [sum(a["prompt"] != b["prompt"] for a, b in zip(own, plain, strict=True)) for own in (some, every)]
    assert 0 < changed[0] < changed[1] <= len(plain)
    assert [row["chosen"] for row in every] == [row["chosen"] for row in plain]


@pytest.mark.parametrize(
    ("english", "translation", "allowed"),
    [
        ("One two. Three four.", "Uno dos. Tres cuatro.", {"One two. Tres cuatro.", "Uno dos. Three four."}),
        ("a b c d e f", "u v w x y z", {"a b c x y z", "u v w d e f"}),
        ("a b", "u v", {"u v"}),
        ("...One two. Three four.", "¡Uno dos! Tres cuatro.", {"...One two. Tres cuatro.", "¡Uno dos! Three four."}),
        ("a b c d e f", "今日はパンを焼きます", {"a b c を焼きます", "今日はパン d e f"}),
        # A mark stays with what it stands on.
        ("a b c d e f", "ดื่มน้ำทุกวันเถอะนะ", {"a b c นเถอะนะ", "ดื่มน้ำทุกวั d e f"}),
        ("a b c d e f", "短い", {"短い"}),
    ],
)
def test_parts_of_a_switched_prompt_alternate(english, translation, allowed):
    found = {switched(english, translation, random.Random(seed)) for seed in range(8)}
    assert found == allowed


def test_a_share_of_none_makes_none(rows):
    assert translated_rows(rows, TranslatedSettings(), seed=0) == []
    assert mixed_rows(rows, [], 0.5) == rows


def test_without_translations_there_is_nothing_to_train_on(rows):
    with pytest.raises(ValueError, match="none of the 1 prompts has a translation"):
        translated_rows([rows[0] | {"variants": [rows[0]["prompt"], ""]}], HALF, seed=0)


@pytest.mark.parametrize("control", ["shuffled", "shuffled_within_class", "permuted_labels"])
def test_controls_give_answers_to_other_prompts(control):
    rows = make_rows()
    made = translated_rows(rows, TranslatedSettings(share=0.5, control=control), seed=1)
    owners = {text: row for row in rows for text in row["variants"][1:]}
    own = [owners[row["prompt"]]["chosen"] == row["chosen"] for row in made]
    alike = [owners[row["prompt"]]["label"] == row["label"] for row in made]
    assert len(made) == 16
    assert all(alike) == (control == "shuffled_within_class")
    assert any(own) == (control == "permuted_labels")


def test_a_control_by_class_needs_labels(rows):
    with pytest.raises(UserError, match="'permuted_labels' needs a label"):
        translated_rows([rows[0] | {"label": None}], TranslatedSettings(share=0.5, control="permuted_labels"), seed=0)


@pytest.mark.parametrize(("share", "copies"), [(0.5, 2), (0.2, 8), (0.9, 1)])
def test_english_is_repeated_up_to_its_share(rows, share, copies):
    made = translated_rows(rows, HALF, seed=0)
    mixed = mixed_rows(rows, made, share)
    assert len(mixed) == copies * len(rows) + len(made)


def test_the_carrier_trains_on_both(rows, load_tiny, tmp_path):
    def series(alignment, folder):
        folder.mkdir()
        log = align(load_tiny(), rows, alignment, seed=0, folder=folder)
        return [entry["loss"] for entry in log], {entry["num_tokens"] for entry in log}

    settings = AlignSettings(steps=2, batch_size=2, learning_rate=1e-3)
    plain, plain_tokens = series(settings.without_consistency(), tmp_path / "plain")
    both, both_tokens = series(settings.with_translated(), tmp_path / "both")
    assert both != plain
    # Two batches a step.
    assert max(both_tokens) > 1.5 * max(plain_tokens)


def test_long_translations_are_left_out_and_counted(rows, load_tiny, tmp_path):
    rows[0]["variants"][1] = "word " * 300
    told = []
    settings = AlignSettings(steps=1, batch_size=2, learning_rate=1e-3).with_translated()
    align(load_tiny(), rows, settings, seed=0, folder=tmp_path, on_left_out=told.extend)
    counts = {count.kind: (count.rows, count.of) for count in told if count.rows}
    assert counts == {"long translation": (1, 12)}


@pytest.mark.parametrize("control", ["shuffled", "shuffled_within_class"])
def test_a_control_does_not_show_the_prompt_itself(rows, control):
    settings = TranslatedSettings(share=0.5, switched=1.0, control=control)
    for row in translated_rows(rows, settings, seed=0):
        own = row["english"]["prompt"]
        others = {word for other in rows if other["prompt"] != own for word in other["prompt"].split()}
        assert not (set(own.split()) - others) & set(row["prompt"].split())


@pytest.mark.parametrize("agreeing", [1, 6])
def test_pairs_of_translations_need_no_english_pair(rows, load_tiny, tmp_path, agreeing):
    answered = [row | {"variant_chosen": ["", "ya", ""], "variant_rejected": ["", "la", ""]} for row in rows]
    nothing = {"chosen": "", "rejected": ""}
    answered = [row | (nothing if number < agreeing else {}) for number, row in enumerate(answered)]
    settings = AlignSettings(steps=1, batch_size=4).with_own_pairs().model_copy(update={"max_dropped": 0.0})
    counts = []
    (entry,) = align(load_tiny(), answered, settings, seed=0, folder=tmp_path, on_left_out=counts.extend)
    assert entry["loss"] > 0
    assert not any(count.rows for count in counts)
