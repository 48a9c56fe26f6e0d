import math

import pytest
import torch

from mlc.losses import consistency_loss
from mlc.models.prompts import pad_prompts
from mlc.training.settings import ConsistencySettings
from mlc.training.term import ConsistencyTerm
from mlc.training.variants import AlignmentCollator, VariantBatch, build_examples


def settings(**values):
    return ConsistencySettings.model_validate({"center": "none", "dim": None, "layer": 2, **values})


def variants_of(rows, policy):
    examples = build_examples(
        rows, policy.tokenizer, 2, max_prompt_tokens=256, max_answer_tokens=16, with_variants=True
    )
    return AlignmentCollator(0, 8)(list(examples))["variants"]


@torch.no_grad()
def plain_state(policy, text, layer):
    rendered = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([policy.tokenizer(rendered, add_special_tokens=False)["input_ids"]])
    return policy.model(ids, output_hidden_states=True).hidden_states[layer][0, -1]


@pytest.mark.parametrize("form", ["cosine", "released", "paper"])
def test_equals_the_loss_on_states_of_the_full_forward_pass(rows, opened, form):
    rows[1]["mask"] = [True, False, True]
    rows[4]["mask"] = [True, True, False]
    output = ConsistencyTerm(settings(form=form), 64, 3)(opened.model, variants_of(rows, opened))
    losses, collinearities = [], []
    for row in rows:
        present = [text for text, there in zip(row["variants"], row["mask"], strict=True) if there]
        z = torch.stack([plain_state(opened, text, 2) for text in present])[None]
        result = consistency_loss(z, form=form)
        losses.append(result.loss.item() if form != "cosine" else float("nan"))
        collinearities.append(result.collinearity.item())
        if form == "cosine":
            cosines = torch.nn.functional.cosine_similarity(z[0, :1], z[0, 1:])
            losses[-1] = float((1 - cosines).mean())
    assert output.loss.item() == pytest.approx(sum(losses) / 6, abs=1e-5)
    assert output.collinearity == pytest.approx(sum(collinearities) / 6, abs=1e-5)


def test_centring_subtracts_the_mean_english_state(rows, tiny_policy):
    output = ConsistencyTerm(settings(center="batch"), 64, 3)(tiny_policy.model, variants_of(rows, tiny_policy))
    states = torch.stack([torch.stack([plain_state(tiny_policy, text, 2) for text in r["variants"]]) for r in rows])
    centred = states - states[:, 0].mean(dim=0)
    cosines = torch.nn.functional.cosine_similarity(centred[:, :1], centred[:, 1:], dim=-1)
    assert output.loss.item() == pytest.approx(float((1 - cosines).mean()), abs=1e-4)


def test_cosine_between_prompts(rows, tiny_policy):
    output = ConsistencyTerm(settings(), 64, 3)(tiny_policy.model, variants_of(rows, tiny_policy))
    english = [plain_state(tiny_policy, row["prompt"], 2) for row in rows]
    cosines = [
        float(torch.nn.functional.cosine_similarity(left, right, dim=0))
        for i, left in enumerate(english)
        for j, right in enumerate(english)
        if i != j
    ]
    assert output.between_prompt_cosine == pytest.approx(sum(cosines) / 30, abs=1e-5)


def test_a_single_prompt_has_no_cosine_between_prompts(rows, tiny_policy):
    output = ConsistencyTerm(settings(), 64, 3)(tiny_policy.model, variants_of(rows[:1], tiny_policy))
    assert math.isnan(output.between_prompt_cosine)
    assert torch.isfinite(output.loss)


def test_the_extractor_is_trained_and_the_layers_above_are_not(rows, load_tiny):
    policy = load_tiny()
    term = ConsistencyTerm(settings(form="released", dim=16), 64, 3)
    term(policy.model, variants_of(rows, policy)).loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in term.parameters())
    layers = policy.model.model.layers
    assert layers[0].mlp.up_proj.weight.grad.abs().max() > 0
    assert layers[1].mlp.up_proj.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for layer in layers[2:] for parameter in layer.parameters())


def test_the_running_mean_is_saved_with_the_term(rows, tiny_policy):
    term = ConsistencyTerm(settings(center="running"), 64, 3)
    with torch.no_grad():
        term(tiny_policy.model, variants_of(rows, tiny_policy))
    expected = torch.stack([plain_state(tiny_policy, row["prompt"], 2) for row in rows]).mean(dim=0)
    torch.testing.assert_close(term.state_dict()["centering.mean"][0], expected, atol=1e-5, rtol=1e-4)


def test_pooling_over_the_text_needs_no_template_tokens(rows, tiny_policy):
    variants = variants_of(rows, tiny_policy)
    last = ConsistencyTerm(settings(), 64, 3)(tiny_policy.model, variants).loss
    mean = ConsistencyTerm(settings(pool="mean"), 64, 3)(tiny_policy.model, variants).loss
    assert not torch.isclose(last, mean)


def test_padding_on_the_right_gives_the_same(rows, tiny_policy):
    variants = variants_of(rows, tiny_policy)
    examples = build_examples(
        rows, tiny_policy.tokenizer, 2, max_prompt_tokens=256, max_answer_tokens=16, with_variants=True
    )
    right = VariantBatch(pad_prompts([v for e in examples for v in e.variants], 0, side="right"), variants.mask)
    term = ConsistencyTerm(settings(), 64, 3)
    torch.testing.assert_close(term(tiny_policy.model, right).loss, term(tiny_policy.model, variants).loss)
