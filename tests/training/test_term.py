import copy
import math

import numpy as np
import pytest
import torch

from mlc.losses import consistency_loss
from mlc.models.prompts import pad_prompts
from mlc.training.settings import ConsistencyConfig
from mlc.training.term import ConsistencyTerm
from mlc.training.variants import VariantBatch, Variants, batch_variants, encode_variants

LANGUAGES = ("eng_Latn", "swh_Latn", "yor_Latn")
LAYER = 2


def config(**values):
    return ConsistencyConfig.model_validate({"center": "none", "dim": None, "layer": LAYER, "pool": "last", **values})


def term_of(languages=LANGUAGES, **values):
    return ConsistencyTerm(config(**values), 64, languages)


def encoded(rows, policy):
    return [encode_variants(policy.tokenizer, row["variants"], max_tokens=512) for row in rows]


def batch_of(rows, policy, **options):
    return batch_variants(encoded(rows, policy), policy.pad_token, **options)


@torch.no_grad()
def plain_state(policy, text):
    rendered = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([policy.tokenizer(rendered, add_special_tokens=False)["input_ids"]])
    return policy.model(ids, output_hidden_states=True).hidden_states[LAYER][0, -1]


def plain_states(rows, policy):
    """[V, L, H], each text alone through the whole model; zeros where one is missing."""
    empty = torch.zeros(64)
    return torch.stack(
        [torch.stack([plain_state(policy, text) if text else empty for text in row["variants"]]) for row in rows]
    )


def mask_of(rows):
    return torch.tensor([[bool(text) for text in row["variants"]] for row in rows])


# The loss.


@pytest.mark.parametrize("form", ["cosine", "contrastive", "released", "paper"])
def test_equals_the_loss_on_states_of_the_full_forward_pass(rows, opened, form):
    rows[1]["variants"][1] = None
    rows[4]["variants"][2] = ""
    output = term_of(form=form)(opened.model, batch_of(rows, opened))
    expected = consistency_loss(
        plain_states(rows, opened),
        form=form,
        anchor=config(form=form).anchor,
        mask=mask_of(rows),
    )
    assert output.loss.item() == pytest.approx(expected.loss.mean().item(), abs=1e-5)
    assert output.collinearity == pytest.approx(expected.collinearity.mean().item(), abs=1e-5)


def test_the_cosine_form_by_hand(rows, tiny_policy):
    rows[1]["variants"][1] = None
    output = term_of(center="batch")(tiny_policy.model, batch_of(rows, tiny_policy))
    states = plain_states(rows, tiny_policy).double().numpy()
    states -= states[:, 0].mean(axis=0)
    losses = []
    for row, grid in zip(rows, states, strict=True):
        present = [place for place, text in enumerate(row["variants"]) if text and place]
        cosines = [grid[0] @ grid[p] / np.linalg.norm(grid[0]) / np.linalg.norm(grid[p]) for p in present]
        losses.append(1 - np.mean(cosines))
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-4)


def test_only_prompts_with_a_translation_enter(rows, tiny_policy):
    whole = term_of(form="released")(tiny_policy.model, batch_of(rows[:4], tiny_policy))
    for row in rows[4:]:
        row["variants"][1:] = [None, ""]
    some = term_of(form="released")(tiny_policy.model, batch_of(rows, tiny_policy))
    assert some.loss.item() == pytest.approx(whole.loss.item(), abs=1e-6)


@pytest.mark.parametrize("values", [{}, {"pool": "mean"}, {"pool": "last_content"}, {"center": "batch"}])
def test_the_side_of_the_padding_does_not_matter(rows, tiny_policy, values):
    losses = [
        term_of(**values)(tiny_policy.model, batch_of(rows, tiny_policy, side=side)).loss for side in ("left", "right")
    ]
    torch.testing.assert_close(*losses)


def test_pooling_over_the_text_needs_no_template_tokens(rows, tiny_policy):
    batch = batch_of(rows, tiny_policy)
    last, mean = (term_of(pool=pool)(tiny_policy.model, batch).loss for pool in ("last", "mean"))
    assert not torch.isclose(last, mean)


def test_the_running_mean_is_part_of_the_state(rows, tiny_policy):
    term = term_of(center="running")
    with torch.no_grad():
        term(tiny_policy.model, batch_of(rows, tiny_policy))
    expected = plain_states(rows, tiny_policy)[:, 0].mean(dim=0)
    torch.testing.assert_close(term.state_dict()["centering.mean"][0], expected, atol=1e-5, rtol=1e-4)


# Weights.


def test_language_weights_go_by_name(rows, tiny_policy):
    batch = batch_of(rows, tiny_policy)
    weighted = term_of(language_weights={"yor_Latn": 3.0})(tiny_policy.model, batch).loss
    first, second = (
        (1 - torch.nn.functional.cosine_similarity(states[:, 0], states[:, place], dim=-1)).mean()
        for states in [plain_states(rows, tiny_policy)]
        for place in (1, 2)
    )
    assert weighted.item() == pytest.approx((first.item() + 3 * second.item()) / 4, abs=1e-5)


def test_a_language_without_weight_is_not_there(rows, tiny_policy):
    ignored = term_of(language_weights={"yor_Latn": 0.0})(tiny_policy.model, batch_of(rows, tiny_policy)).loss
    for row in rows:
        row["variants"][2] = None
    without = term_of()(tiny_policy.model, batch_of(rows, tiny_policy)).loss
    assert ignored.item() == pytest.approx(without.item(), abs=1e-6)


def test_an_unknown_language_has_no_weight():
    with pytest.raises(ValueError, match="language_weights names 'zul_Latn'; the data has eng_Latn, swh_Latn"):
        term_of(language_weights={"swh_Latn": 1.0, "zul_Latn": 2.0})


@pytest.mark.parametrize(
    ("off", "values"),
    [
        (["eng_Latn"], {}),
        (["eng_Latn"], {"form": "contrastive", "anchor": "none"}),
        (["swh_Latn", "yor_Latn"], {}),
        (["eng_Latn", "yor_Latn"], {"form": "released"}),
    ],
)
def test_weights_that_leave_nothing_to_compare_are_refused(off, values):
    with pytest.raises(ValueError, match=f"language_weights of 0 for {', '.join(off)} leave nothing to compare"):
        term_of(language_weights=dict.fromkeys(off, 0.0), **values)


def test_without_an_anchor_the_others_are_compared_among_themselves():
    assert term_of(form="released", language_weights={"eng_Latn": 0}).language_weights.tolist() == [0.0, 1.0, 1.0]


def test_weights_of_rows_reach_the_loss(rows, tiny_policy):
    variants = encoded(rows, tiny_policy)
    weights = [(1.0, 0.25, 1.0 + number) for number in range(len(rows))]
    weighted = [Variants(one.prompts, row) for one, row in zip(variants, weights, strict=True)]
    output = term_of(form="released")(tiny_policy.model, batch_variants(weighted, tiny_policy.pad_token))
    expected = consistency_loss(plain_states(rows, tiny_policy), row_weights=torch.tensor(weights))
    assert output.loss.item() == pytest.approx(expected.loss.mean().item(), abs=1e-5)
    plain = consistency_loss(plain_states(rows, tiny_policy))
    assert output.loss.item() != pytest.approx(plain.loss.mean().item(), abs=1e-3)


# What is watched.


def test_the_figures_by_hand(rows, tiny_policy):
    rows[2]["variants"][1] = None
    output = term_of(center="batch")(tiny_policy.model, batch_of(rows, tiny_policy))
    states, there = plain_states(rows, tiny_policy).double().numpy(), mask_of(rows).numpy()

    def collinearity(grid):
        shares = []
        for row, present in zip(grid, there, strict=True):
            unit = row[present] / np.linalg.norm(row[present], axis=1, keepdims=True)
            shares.append(np.linalg.svd(unit, compute_uv=False)[0] ** 2 / present.sum())
        return np.mean(shares)

    english = states[:, 0]
    unit = english / np.linalg.norm(english, axis=1, keepdims=True)
    between = [unit[i] @ unit[j] for i in range(6) for j in range(6) if i != j]
    assert output.collinearity == pytest.approx(collinearity(states), abs=1e-5)
    assert output.centred_collinearity == pytest.approx(collinearity(states - english.mean(axis=0)), abs=1e-4)
    assert output.between_prompt_cosine == pytest.approx(np.mean(between), abs=1e-5)
    assert output.figures() == {
        "consistency_loss": output.loss.item(),
        "collinearity": output.collinearity,
        "centred_collinearity": output.centred_collinearity,
        "between_prompt_cosine": output.between_prompt_cosine,
    }


def test_the_figures_show_a_collapse(rows, tiny_policy):
    for row in rows:
        row["variants"] = rows[0]["variants"]
    output = term_of()(tiny_policy.model, batch_of(rows, tiny_policy))
    assert output.between_prompt_cosine == pytest.approx(1.0, abs=1e-6)


def test_a_single_prompt_has_no_cosine_between_prompts(rows, tiny_policy):
    output = term_of()(tiny_policy.model, batch_of(rows[:1], tiny_policy))
    assert math.isnan(output.between_prompt_cosine)
    assert torch.isfinite(output.loss)


# Gradient and types.


@pytest.mark.parametrize("form", ["cosine", "contrastive", "released", "paper"])
def test_the_extractor_is_trained_and_the_layers_above_are_not(rows, load_tiny, form):
    policy = load_tiny()
    term = term_of(form=form, dim=16)
    term(policy.model, batch_of(rows, policy)).loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in term.parameters())
    layers = policy.model.model.layers
    assert all(layer.mlp.up_proj.weight.grad.abs().max() > 0 for layer in layers[:LAYER])
    assert all(parameter.grad is None for layer in layers[LAYER:] for parameter in layer.parameters())


@pytest.mark.parametrize("form", ["cosine", "released"])
def test_weights_in_bfloat16(rows, load_tiny, form):
    policy = load_tiny()
    precise = term_of(form=form, dim=16, center="running")(policy.model, batch_of(rows, policy)).loss
    policy.model.to(torch.bfloat16)
    rough = term_of(form=form, dim=16, center="running")(policy.model, batch_of(rows, policy)).loss
    rough.backward()
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(precise.item(), rel=0.1)
    assert policy.model.model.layers[0].mlp.up_proj.weight.grad.isfinite().all()


# The extractor's first weights.


def test_the_seed_alone_decides_on_the_extractor():
    def extractor(seed, caller):
        torch.manual_seed(caller)
        return ConsistencyTerm(config(dim=8), 64, LANGUAGES, seed=seed).head.extract.weight

    assert torch.equal(extractor(0, caller=1), extractor(0, caller=2))
    assert not torch.equal(extractor(0, caller=1), extractor(1, caller=1))


def test_the_callers_random_state_stays():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ConsistencyTerm(config(dim=8), 64, LANGUAGES)
    assert torch.equal(torch.rand(3), expected)


def test_the_size_may_be_read_from_the_model(tiny_policy):
    assert ConsistencyTerm(config(dim=8), tiny_policy.model, 3).head.extract.in_features == 64


# In a loop of one's own.


def test_a_loop_of_ones_own_lowers_the_term(rows, load_tiny):
    policy = load_tiny()
    term = ConsistencyTerm(config(center="batch", warmup_steps=2), policy.model, LANGUAGES)
    batch = batch_of(rows, policy)
    optimizer = torch.optim.AdamW([*policy.model.parameters(), *term.parameters()], lr=1e-3)
    losses = []
    for step in range(8):
        output = term(policy.model, batch)
        losses.append(output.loss.item())
        (term.weight(step) * output.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert [term.weight(step) for step in range(4)] == [0.0, 0.5, 1.0, 1.0]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[-1] < 0.8 * losses[0]


def test_padding_tokens_do_not_matter(rows, tiny_policy):
    prompts = [one for variants in encoded(rows, tiny_policy) for one in variants.prompts]
    mask = torch.ones(6, 3, dtype=torch.bool)
    losses = [
        term_of()(tiny_policy.model, VariantBatch(pad_prompts(prompts, pad), mask)).loss.item() for pad in (0, 5, 700)
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_states_are_left_as_they_are(rows, tiny_policy):
    before = copy.deepcopy(tiny_policy.model.state_dict())
    term_of()(tiny_policy.model, batch_of(rows, tiny_policy))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_policy.model.state_dict().items())
