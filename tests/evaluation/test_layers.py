import copy
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, BloomForCausalLM

from mlc.errors import UserError
from mlc.evaluation.layers import (
    POOLS,
    LayerFigures,
    layer_states,
    leave_pair_out,
    measure_layer,
    recommend,
    retrieval_hits,
    sweep_layers,
)
from mlc.evaluation.metrics import auroc
from mlc.evaluation.parallel import ParallelPrompts, choose_prompts, read_parallel
from mlc.evaluation.results import Estimate
from mlc.losses import consistency_loss
from mlc.models.loading import Policy
from mlc.models.prompts import encode_prompt, pad_prompts
from mlc.models.states import DECODERS, prompt_states
from mlc.shipped import shipped_data

SECRET = "xylophone-marmalade"
"""A word in prompts that no message may show."""
LABELS = ("harmful", "harmful", "harmless", "harmless")


def prompts_of(texts, labels=None, languages=("eng_Latn", "deu_Latn", "swh_Latn")):
    count = len(texts)
    return ParallelPrompts(
        ids=tuple(f"p{row}" for row in range(count)),
        labels=tuple(labels or [None] * count),
        languages=tuple(languages[: len(texts[0])]),
        texts=tuple(tuple(row) for row in texts),
        left_out={},
    )


def blank_prompts(mask, labels=None):
    return prompts_of([["x" if there else None for there in row] for row in mask], labels)


# Retrieval.


def test_two_exchanged_translations_of_five_leave_three_found():
    english = np.eye(5)
    other = english[[1, 0, 2, 3, 4]]
    assert retrieval_hits(english, other).tolist() == [0, 0, 1, 1, 1]


def test_an_offset_of_a_language_changes_no_retrieval():
    english = np.eye(5)
    other = 3 * english[[1, 0, 2, 3, 4]] + np.array([0, 50.0, 0, 0, 7.0])
    assert retrieval_hits(english, other).tolist() == [0, 0, 1, 1, 1]


def test_states_that_are_all_the_same_are_found_at_chance():
    states = np.full((8, 3), 0.1)
    assert retrieval_hits(states, states).tolist() == [1 / 8] * 8


def test_two_equal_prompts_share_a_hit():
    english = np.array([[1.0, 0], [1, 0], [-1, 1], [-1, -1]])
    assert retrieval_hits(english, english).tolist() == [0.5, 0.5, 1, 1]


def test_the_directions_count_half_each():
    # In one dimension only signs are left: the two positive ones tie, and the negative ones find each other.
    english, other = np.array([[2.0], [1.0], [-3.0]]), np.array([[3.0], [-1.0], [-2.0]])
    # Translation 0 is near English 0 and 1; translations 1 and 2 near English 2. English 0 and 1 are near
    # translation 0; English 2 near translations 1 and 2.
    assert retrieval_hits(english, other).tolist() == [(1 / 2 + 1) / 2, 0, (1 + 1 / 2) / 2]


def plain_hits(english, other):
    english, other = english - english.mean(axis=0), other - other.mean(axis=0)
    found = np.zeros(len(english))
    for queries, candidates in ((other, english), (english, other)):
        for row, query in enumerate(queries):
            cosines = [query @ one / (np.linalg.norm(query) * np.linalg.norm(one)) for one in candidates]
            found[row] += 0.5 * (int(np.argmax(cosines)) == row)
    return found


@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(2, 5))
def test_hits_are_those_of_the_plain_loop(seed, count, size):
    english, noise = np.random.default_rng(seed).normal(size=(2, count, size))
    assert retrieval_hits(english, english + noise).tolist() == plain_hits(english, english + noise).tolist()


# Separation.


def test_separation_in_one_dimension_by_hand():
    harmful, harmless = np.array([[2.0], [3.0]]), np.array([[0.0], [1.0]])
    assert leave_pair_out(harmful, harmless, harmful, harmless).tolist() == [[1, 1], [1, 1]]


def test_nothing_is_scored_by_a_direction_that_saw_it():
    # (0, 1): without them the direction is 3 - 2 = 1, and 0 - 1 is below. (0, 2): 3 - 1 = 2, below. (3, 1): 0 - 2 = -2
    # turns 3 - 1 round. (3, 2): 0 - 1 = -1 turns 3 - 2 round. A direction from all of them would be 0.
    harmful, harmless = np.array([[0.0], [3.0]]), np.array([[1.0], [2.0]])
    assert leave_pair_out(harmful, harmless, harmful, harmless).tolist() == [[0, 0], [0, 0]]


def test_equal_states_are_not_separated():
    states = np.full((3, 4), 0.7)
    assert leave_pair_out(states, states, states, states).tolist() == [[0.5] * 3] * 3


def test_the_english_direction_in_another_language():
    harmful, harmless = np.array([[2.0, 1], [3, 0]]), np.array([[0.0, 1], [1, 0]])
    offset = np.array([100.0, -40.0])
    assert leave_pair_out(harmful, harmless, harmful + offset, harmless + offset).mean() == 1
    assert leave_pair_out(harmful, harmless, -harmful, -harmless).mean() == 0
    # A language that tells them apart along another axis has nothing of it along the English one.
    across = [np.array([[0.0, 4.0], [0.0, 5.0]]), np.array([[0.0, 1.0], [0.0, 2.0]])]
    english = [states * [1.0, 0.0] for states in (harmful, harmless)]
    assert leave_pair_out(*english, *across).mean() == 0.5


def plain_pairs(fit_harmful, fit_harmless, harmful, harmless):
    pairs = np.zeros((len(harmful), len(harmless)))
    for i in range(len(harmful)):
        for j in range(len(harmless)):
            others = np.delete(fit_harmful, i, axis=0).mean(axis=0) - np.delete(fit_harmless, j, axis=0).mean(axis=0)
            pairs[i, j] = auroc([harmful[i] @ others], [harmless[j] @ others])
    return pairs


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.integers(1, 5))
def test_pairs_are_those_of_the_plain_loop(seed, above, below, size):
    generator = np.random.default_rng(seed)
    states = [generator.normal(size=(count, size)) + 5.0 for count in (above, below, above, below)]
    assert leave_pair_out(*states).tolist() == plain_pairs(*states).tolist()


def test_noise_in_many_dimensions_is_at_chance_although_a_direction_fits_it():
    generator = np.random.default_rng(0)
    held_out, fitted = [], []
    for _ in range(30):
        harmful, harmless = generator.normal(size=(2, 16, 300))
        direction = harmful.mean(axis=0) - harmless.mean(axis=0)
        fitted.append(auroc(harmful @ direction, harmless @ direction))
        held_out.append(leave_pair_out(harmful, harmless, harmful, harmless).mean())
    assert min(fitted) > 0.99
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.05)


# Figures of a layer.


def planted(found, separated, size=12):
    """States of 4 prompts in 3 languages: the German ones find `found` sources, the Swahili ones all of them."""
    english = np.zeros((4, size))
    english[:, :4] = np.eye(4)
    german = english[[1, 2, 3, 0]] if found == 0 else english[[1, 0, 2, 3]] if found == 2 else english.copy()
    states = np.stack([english, german, english], axis=1)
    if separated:
        # Far stronger than what tells the prompts apart, and the same in every language.
        states[:2, :, -1] += 3.0
    return states + 0.25


@pytest.mark.parametrize(("found", "german"), [(0, 0.0), (2, 0.5), (4, 1.0)])
def test_retrieval_of_planted_states(found, german):
    figures = measure_layer(planted(found, False), blank_prompts(np.ones((4, 3))), layer=3, pool="mean")
    assert [one.retrieval for one in figures.languages] == [german, 1.0]
    assert figures.retrieval.value == (german + 1) / 2
    assert figures.retrieval.low <= figures.retrieval.value <= figures.retrieval.high
    assert (figures.layer, figures.pool, figures.retrieval.n) == (3, "mean", 4)


def test_an_interval_does_not_shrink_to_a_perfect_rate():
    perfect = measure_layer(planted(4, False), blank_prompts(np.ones((4, 3))), layer=1, pool="last").retrieval
    # Wilson, 4 of 4: 4 / (4 + 1.96^2).
    assert (perfect.value, perfect.high) == (1, 1)
    assert perfect.low == pytest.approx(4 / (4 + 1.959964**2), abs=1e-6)


def test_separation_of_planted_states():
    figures = measure_layer(planted(4, True), blank_prompts(np.ones((4, 3)), LABELS), layer=1, pool="last")
    assert (figures.separation.value, figures.transfer.value, figures.separation.n) == (1, 1, 4)
    assert figures.separation_error == 0
    # English and Swahili have four orthogonal prompts: those of the own class are no nearer than the others.
    level = measure_layer(planted(4, False), blank_prompts(np.ones((4, 3)), LABELS), layer=1, pool="last")
    assert level.separation.value == 0.5


def test_without_labels_there_is_no_separation():
    for labels in (None, ("harmful",) * 4, ("harmful", "harmful", "harmful", "harmless"), (None, *LABELS[:3])):
        figures = measure_layer(planted(4, True), blank_prompts(np.ones((4, 3)), labels), layer=1, pool="last")
        assert figures.separation.n == figures.transfer.n == 0
        assert math.isnan(figures.separation.value)
        assert figures.retrieval.value == 1


def test_collinearity_by_hand():
    # Equal states in all languages: one direction each. German turned away by a right angle: singular values 2 and 1.
    states = np.zeros((4, 3, 8))
    states[np.arange(4), :, np.arange(4)] = 1
    whole = blank_prompts(np.ones((4, 3)))
    assert measure_layer(states, whole, layer=1, pool="last").collinearity == pytest.approx(1)
    states[:, 1] = np.roll(states[:, 1], 4, axis=1)
    figures = measure_layer(states, whole, layer=1, pool="last")
    assert figures.collinearity == pytest.approx(2 / 3)
    centred = torch.tensor(states - states[:, 0].mean(axis=0))
    assert figures.centred_collinearity == pytest.approx(consistency_loss(centred).collinearity.mean().item())


def test_states_that_are_all_the_same_have_nothing_left_after_centring():
    figures = measure_layer(np.full((4, 3, 5), 0.3), blank_prompts(np.ones((4, 3)), LABELS), layer=0, pool="last")
    assert (figures.collinearity, figures.centred_collinearity) == (pytest.approx(1), 0)
    assert (figures.matched, figures.unmatched) == (0, 0)
    assert figures.retrieval.value == 1 / 4
    assert figures.separation.value == figures.transfer.value == 0.5


def test_missing_translations_do_not_count():
    generator = np.random.default_rng(0)
    states = generator.normal(size=(9, 3, 6))
    labels = ("harmful", "harmless", None) * 3
    mask = np.ones((9, 3), dtype=bool)
    mask[[2, 5], 1] = mask[7, 2] = mask[8, 1:] = False
    figures = measure_layer(states, blank_prompts(mask, labels), layer=1, pool="last")
    states[~mask] = np.nan
    assert repr(measure_layer(states, blank_prompts(mask, labels), layer=1, pool="last")) == repr(figures)
    german, swahili = figures.languages
    assert (german.prompts, swahili.prompts) == (6, 7)
    rows = mask[:, 1]
    assert german.retrieval == pytest.approx(retrieval_hits(states[rows, 0], states[rows, 1]).mean())
    # German has harmful prompts 0, 3, 6 and harmless ones 1, 4, 7; Swahili lacks prompt 7.
    harmful, harmless = [0, 3, 6], [1, 4, 7]
    english = leave_pair_out(*[states[part, 0] for part in (harmful, harmless)] * 2)
    assert figures.separation.value == pytest.approx(english.mean())
    filled = np.nan_to_num(states)
    pairs = plain_pairs(*[filled[part, column] for column in (0, 2) for part in (harmful, harmless)])
    assert swahili.transfer == pytest.approx(pairs[:, :2].mean())
    assert figures.retrieval.n == 8


def test_the_same_prompts_give_the_same_intervals():
    states = np.random.default_rng(1).normal(size=(8, 3, 5))
    prompts = blank_prompts(np.ones((8, 3)), LABELS * 2)
    first, second = (measure_layer(states, prompts, layer=1, pool="last") for _ in range(2))
    assert first == second
    assert first.retrieval.low < first.retrieval.value < first.retrieval.high
    assert first.separation_error > 0


# Recommendation.


def made(layer, retrieval, separation=None, error=0.0, pool="last"):
    def exact(value):
        return Estimate(math.nan, math.nan, math.nan, 0) if value is None else Estimate(value, value, value, 9)

    return LayerFigures(
        layer, pool, 0.9, 0.5, 0.3, 0.0, exact(retrieval), exact(separation), error, exact(separation), ()
    )


@pytest.mark.parametrize(
    ("figures", "layer"),
    [
        pytest.param([(1, 0.9, 0.70), (2, 0.6, 0.90), (3, 0.7, 0.89)], 3, id="separated first, then retrieval"),
        pytest.param([(1, 0.9, 0.87), (2, 0.6, 0.90), (3, 0.7, 0.89)], 3, id="more than .02 below the best"),
        pytest.param([(1, 0.9, 0.88), (2, 0.6, 0.90), (3, 0.7, 0.89)], 1, id=".02 below the best"),
        pytest.param([(1, 0.9, 0.80), (2, 0.6, 0.90, 0.11), (3, 0.7, 0.89)], 1, id="one standard error below the best"),
        pytest.param([(1, 0.9, 0.80, 0.4), (2, 0.6, 0.90), (3, 0.7, 0.89)], 3, id="the error is that of the best"),
        pytest.param([(1, 0.70, 0.9), (2, 0.704, 0.9), (3, 0.696, 0.9)], 1, id="equal in two digits: the lowest"),
        pytest.param([(1, 0.70, 0.9), (2, 0.706, 0.9), (3, 0.7, 0.9)], 2, id="not equal in two digits"),
        pytest.param(
            [(0, 1.0, 1.0), (1, 0.5, 0.6), (2, 0.6, 0.6), (4, 1.0, 1.0)], 2, id="no embeddings, no last entry"
        ),
        pytest.param([(1, 0.3), (2, 0.6), (3, 0.5)], 2, id="no labels"),
    ],
)
def test_the_recommended_layer_by_hand(figures, layer):
    assert recommend([made(*one) for one in figures], depth=4).layer == layer


def test_the_pooling_that_stands_first_wins_a_tie():
    figures = [made(2, 0.5, 0.9, pool=pool) for pool in reversed(POOLS)]
    assert recommend(figures, depth=4).pool == "last"
    assert recommend([*figures, made(1, 0.5, 0.9, pool="mean")], depth=4).pool == "mean"


def test_the_rule_is_told_with_its_numbers():
    told = recommend([made(1, 0.9, 0.8), made(2, 0.6, 0.9, 0.0512)], depth=4)
    assert "layers 1 to 2, " in told.rule
    assert "within .05 of the best, .90" in told.rule
    assert "without labels" in recommend([made(1, 0.9), made(2, 0.6, pool="mean")], depth=4).rule
    assert told.share == 0.5


def test_a_model_of_one_layer():
    assert recommend([made(0, 1.0), made(1, 0.2)], depth=1).layer == 1
    with pytest.raises(ValueError, match="above the embeddings"):
        recommend([made(0, 1.0)], depth=0)


# States.

TEXTS = [
    ["How do I bake bread without yeast?", "Wie backe ich Brot ohne Hefe?", "Nitaokaje mkate bila hamira?"],
    ["Hello", "Hallo", None],
    ["Which of the plants need the least water during a dry and hot summer, and why?", None, "Habari ya mimea yangu?"],
    ["Where is the station?", "Wo ist der Bahnhof?", "Kituo kiko wapi?"],
]


@pytest.mark.parametrize("batch_size", [3, 16])
@torch.no_grad()
def test_states_of_all_layers_are_those_of_prompt_states(policy, batch_size):
    states = layer_states(policy, prompts_of(TEXTS), batch_size=batch_size)
    assert states.keys() == set(POOLS)
    for pool, found in states.items():
        assert found.shape == (5, 4, 3, 64)
        assert found.dtype == np.float32
        for row, texts in enumerate(TEXTS):
            for column, text in enumerate(texts):
                if text is None:
                    assert not found[:, row, column].any()
                    continue
                alone = pad_prompts([encode_prompt(policy.tokenizer, text)], 0)
                for layer in range(5):
                    expected = prompt_states(
                        policy.model, alone.input_ids, alone.attention_mask, layer=layer, pool=pool,
                        content_mask=alone.content_mask,
                    )  # fmt: skip
                    np.testing.assert_allclose(found[layer, row, column], expected[0].numpy(), atol=1e-4)
        if pool != "last":
            assert np.ptp(found[2, :, 0], axis=0).max() > 0.1


@pytest.mark.parametrize("pool", POOLS)
def test_one_pooling_is_the_same_as_among_all(policy, pool):
    prompts = prompts_of(TEXTS)
    np.testing.assert_allclose(
        layer_states(policy, prompts, pools=(pool,))[pool], layer_states(policy, prompts)[pool], atol=1e-4
    )


def test_the_head_is_not_computed_and_every_text_runs_once(policy):
    calls, told = [], []
    handle = policy.model.lm_head.register_forward_hook(lambda *_: calls.append(1))
    try:
        layer_states(policy, prompts_of(TEXTS), batch_size=4, on_progress=told.append)
    finally:
        handle.remove()
    assert calls == []
    assert told == [4, 4, 2]


def test_a_family_whose_layers_are_not_known(tiny_policy):
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=768, hidden_size=16, n_layer=2, n_head=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    assert "bloom" not in DECODERS
    found = layer_states(Policy(model, tiny_policy.tokenizer, tiny_policy.source), prompts_of(TEXTS))["last"]
    ids = torch.tensor([encode_prompt(tiny_policy.tokenizer, TEXTS[1][0]).input_ids])
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(found[:, 1, 0], torch.stack(expected)[:, 0, -1].numpy(), atol=1e-4)


def test_a_template_that_changes_the_text(tiny_policy):
    shouting = copy.deepcopy(tiny_policy)
    shouting.tokenizer.chat_template = "{{ messages[0]['content'] | upper }}"
    prompts = prompts_of([[SECRET, "b", "c"], *TEXTS[1:]])
    with pytest.raises(UserError, match=r"'p0' in \w+_Latn.*choose the pooling last") as caught:
        layer_states(shouting, prompts)
    assert SECRET not in str(caught.value)
    assert layer_states(shouting, prompts, pools=("last",)).keys() == {"last"}


def test_the_sweep_holds_every_layer_of_every_pooling(policy):
    told = []
    sweep = sweep_layers(policy, prompts_of(TEXTS, LABELS), pools=("last", "mean"), on_layer=told.append)
    assert sweep.depth == 4
    assert [(one.pool, one.layer) for one in sweep.figures] == [
        (pool, layer) for pool in ("last", "mean") for layer in range(5)
    ]
    assert sum(told) == 10
    assert sweep.recommended == recommend(sweep.figures, 4)
    assert sweep.by_pool.keys() == {"last", "mean"}
    assert sweep.recommended in sweep.by_pool.values() or len({one.rule for one in sweep.by_pool.values()}) > 1
    at = sweep.at(sweep.by_pool["mean"])
    assert (at.pool, at.layer) == ("mean", sweep.by_pool["mean"].layer)


# Prompts.

ROWS = [
    {"id": f"r{row}", "en": f"{SECRET} {row}", "de": f"Wort {row}", "swh_Latn": f"neno {row}", "label": label}
    for row, label in enumerate(LABELS * 2)
]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


def test_columns_are_codes_or_short_codes(tmp_path):
    rows = [{**row, "kind": "x", "src": "y", "sub_type": "z"} for row in ROWS]
    prompts = read_parallel(write(tmp_path / "p.jsonl", rows))
    assert prompts.languages == ("eng_Latn", "deu_Latn", "swh_Latn")
    assert prompts.texts[1] == (f"{SECRET} 1", "Wort 1", "neno 1")
    assert prompts.labels == LABELS * 2
    assert prompts.mask.all()
    assert prompts.separable


def test_languages_can_be_chosen(tmp_path):
    path = write(tmp_path / "p.jsonl", ROWS)
    assert read_parallel(path, languages=["swahili"]).languages == ("eng_Latn", "swh_Latn")


def test_columns_with_a_region(tmp_path):
    rows = [{"en-US": f"text {number}", "es-419": "x", "zh-Hans-CN": "y"} for number in range(4)]
    found = read_parallel(write(tmp_path / "p.jsonl", rows))
    assert found.languages == ("eng_Latn", "spa_Latn", "zho_Hans")
    with pytest.raises(UserError, match="'xx-XX' is unknown"):
        read_parallel(write(tmp_path / "p.jsonl", [{**row, "xx-XX": "z"} for row in rows]))


def test_a_prompt_column_is_english(tmp_path):
    rows = [{"prompt": row["en"], "de": row["de"]} for row in ROWS]
    prompts = read_parallel(write(tmp_path / "p.jsonl", rows))
    assert prompts.languages == ("eng_Latn", "deu_Latn")
    assert prompts.ids == tuple(map(str, range(1, 9)))
    assert not prompts.separable


def test_gaps_are_skipped_and_counted(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[0]["de"], rows[1]["de"], rows[2]["en"], rows[4]["id"] = " ", None, "", "r3"
    prompts = read_parallel(write(tmp_path / "p.jsonl", rows))
    assert prompts.ids == ("r0", "r1", "r3", "r5", "r6", "r7")
    assert prompts.mask.sum(axis=0).tolist() == [6, 4, 6]
    assert prompts.left_out == {"repeated id": 1, "no English text": 1}


def test_the_shipped_prompts_and_references():
    prompts = read_parallel(
        shipped_data("quickstart/validation.jsonl"), references=shipped_data("quickstart/references")
    )
    assert len(prompts.ids) == 80
    assert len(prompts.languages) == 7
    assert prompts.mask.all()
    assert prompts.labels.count("harmful") == 40


@pytest.mark.parametrize("form", ["folder", "artifact", "parquet", "jsonl"])
def test_a_training_set_of_the_pipeline(tmp_path, form):
    from datasets import Dataset

    rows = [
        {
            "id": row["id"],
            "prompt": row["en"],
            "label": row["label"],
            "languages": ["eng_Latn", "deu_Latn", "swh_Latn"],
            "variants": [row["en"], row["de"], "" if number == 3 else row["swh_Latn"]],
            "mask": [True, True, number != 3],
        }
        for number, row in enumerate(ROWS)
    ]
    path = tmp_path / {"artifact": "dataset", "parquet": "t.parquet", "jsonl": "t.jsonl"}.get(form, "set")
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        write(path, rows)
    else:
        Dataset.from_list(rows).save_to_disk(path)
    prompts = read_parallel(tmp_path if form == "artifact" else path)
    assert prompts.languages == ("eng_Latn", "deu_Latn", "swh_Latn")
    assert prompts.ids == tuple(row["id"] for row in ROWS)
    assert prompts.mask.sum(axis=0).tolist() == [8, 8, 7]
    assert prompts.texts[3] == (ROWS[3]["en"], ROWS[3]["de"], None)
    assert prompts.labels == LABELS * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda row: without(row, "en"), r"no English text \(.*deu_Latn, swh_Latn\)", id="no English"),
        pytest.param(lambda row: without(row, "de", "swh_Latn"), "English only: add a column", id="English only"),
        pytest.param(lambda row: {**row, "swg_Latn": "x"}, "'swg_Latn' is unknown: did .*swh_Latn", id="mistyped"),
        pytest.param(lambda row: {**row, "ku": "x"}, "'ku' is ambiguous: write ckb_Arab", id="ambiguous"),
        pytest.param(lambda row: {**row, "deu_Latn": "x"}, "two columns for deu_Latn, 'de' and 'deu_Latn'", id="twice"),
        pytest.param(lambda row: row if row["id"] < "r3" else None, "hold 3 with English .* at least 4", id="too few"),
        pytest.param(
            lambda row: {"prompt": SECRET, "languages": ["eng_Latn"], "variants": [SECRET, "b"], "mask": "x"},
            "must be lists of equal length",
            id="no training set",
        ),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_used(tmp_path, change, message):
    rows = [changed for row in ROWS if (changed := change(row))]
    with pytest.raises(UserError, match=message) as caught:
        read_parallel(write(tmp_path / "p.jsonl", rows))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["fr"], "no text in fra_Latn: choose from deu_Latn, swh_Latn"),
        (["germn"], "'germn' is unknown: did you mean deu_Latn"),
        (["en"], "English .* is the source language"),
    ],
)
def test_languages_that_cannot_be_chosen(tmp_path, languages, message):
    with pytest.raises(UserError, match=message):
        read_parallel(write(tmp_path / "p.jsonl", ROWS), languages=languages)


def test_places_without_prompts(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl.*cannot be read"):
        read_parallel(tmp_path / "gone.jsonl")
    with pytest.raises(UserError, match="holds no training set"):
        read_parallel(tmp_path)
    path = write(tmp_path / "p.jsonl", ROWS)
    (tmp_path / "refs").mkdir()
    with pytest.raises(UserError, match=r"refs/p\.jsonl.*cannot be read"):
        read_parallel(path, references=tmp_path / "refs")


# Choice of prompts.


def labelled(*counts):
    labels = [label for label, count in zip(("harmful", "harmless", None), counts, strict=False) for _ in range(count)]
    return prompts_of([["x", "y", "z"]] * len(labels), labels)


@pytest.mark.parametrize(
    ("counts", "limit", "chosen"),
    [
        ((10, 10), 8, (4, 4)),
        ((10, 3), 8, (5, 3)),
        ((2, 10, 10), 9, (2, 3, 4)),
        ((0, 0, 20), 6, (0, 0, 6)),
        ((3, 3), 64, (3, 3)),
        ((3, 4), None, (3, 4)),
    ],
)
def test_labels_are_balanced(counts, limit, chosen):
    part, dropped = choose_prompts(labelled(*counts), limit)
    assert tuple(part.labels.count(label) for label in ("harmful", "harmless", None))[: len(chosen)] == chosen
    assert dropped == ()
    assert part == choose_prompts(labelled(*counts), limit)[0]


def test_the_choice_is_spread_over_the_file_and_keeps_its_order():
    part, _ = choose_prompts(labelled(8, 8), 4)
    assert part.ids == ("p2", "p6", "p10", "p14")


def test_a_language_with_too_few_translations_is_left_out():
    prompts = blank_prompts([[True, True, row < 3] for row in range(6)])
    part, dropped = choose_prompts(prompts, 6)
    assert part.languages == ("eng_Latn", "deu_Latn")
    assert dropped == ("swh_Latn",)
    assert all(len(row) == 2 for row in part.texts)
    with pytest.raises(UserError, match="No language has translations of 4 of the 6"):
        choose_prompts(blank_prompts([[True, False, row < 3] for row in range(6)]), 6)
