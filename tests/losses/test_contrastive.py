import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc.losses import consistency_loss


def random_rows(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def contrastive(z, **options):
    return consistency_loss(torch.as_tensor(z, dtype=torch.float64), form="contrastive", **options)


def reference(z, weights, temperature):
    """From the definition, one prompt and language at a time."""
    norms = np.linalg.norm(z, axis=-1, keepdims=True)
    unit = z / np.where(norms > 0, norms, 1)
    losses = []
    for b in range(len(z)):
        total, weight = 0.0, 0.0
        for language in range(1, z.shape[1]):
            w = weights[b, 0] * weights[b, language]
            if w == 0:
                continue
            to_english = [weights[c, 0] * math.exp(unit[b, language] @ unit[c, 0] / temperature) for c in range(len(z))]
            to_other = [
                weights[c, language] * math.exp(unit[b, 0] @ unit[c, language] / temperature) for c in range(len(z))
            ]
            total -= w * (math.log(to_english[b] / sum(to_english)) + math.log(to_other[b] / sum(to_other))) / 2
            weight += w
        losses.append(total / weight if weight else 0.0)
    return losses


# By hand.


def test_two_prompts_in_perfect_agreement():
    # Own cosine 1, the other's 0: ln(1 + e^(-1/tau)) in both directions.
    z = [[[1, 0], [3, 0]], [[0, 2], [0, 1]]]
    expected = math.log(1 + math.exp(-1 / 0.5))
    assert contrastive(z, temperature=0.5).loss.tolist() == pytest.approx([expected, expected], abs=1e-12)


def test_two_prompts_whose_translations_are_swapped():
    z = [[[1, 0], [0, 1]], [[0, 1], [1, 0]]]
    expected = math.log(1 + math.exp(1 / 0.5))
    assert contrastive(z, temperature=0.5).loss.tolist() == pytest.approx([expected, expected], abs=1e-12)


def test_prompts_that_collapse_cost_log_of_their_number():
    for prompts in (2, 3, 8):
        z = torch.tensor([1.0, 2.0]).expand(prompts, 3, 2)
        assert contrastive(z).loss.tolist() == pytest.approx([math.log(prompts)] * prompts, abs=1e-12)


def test_the_two_directions_differ():
    # Both translations lie on the first English row: it is found by one of two, and finds its own with even odds.
    z = [[[1, 0], [1, 0]], [[0, 1], [1, 0]]]
    near, far, even = math.log(1 + math.exp(-1)), math.log(1 + math.e), math.log(2)
    losses = contrastive(z, temperature=1.0).loss.tolist()
    assert losses == pytest.approx([(near + even) / 2, (far + even) / 2], abs=1e-12)


def test_a_single_prompt_has_nothing_to_contrast():
    z = random_rows(1, 4, 5).requires_grad_()
    result = contrastive(z)
    assert result.loss.tolist() == [0.0]
    result.loss.sum().backward()
    assert z.grad.abs().max() == 0


def test_an_opposite_translation_is_inconsistent():
    z = random_rows(4, 2, 6)
    aligned, opposite = z.clone(), z.clone()
    aligned[:, 1], opposite[:, 1] = z[:, 0], -z[:, 0]
    assert contrastive(opposite).loss.min() > contrastive(aligned).loss.max() + 1


# Against the definition, and relations.


@st.composite
def problems(draw):
    prompts, languages, size = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    z = generator.normal(size=(prompts, languages, size)) * 10.0 ** draw(st.integers(-3, 3))
    weights = generator.choice([0.0, 0.3, 1.0, 2.0], size=(prompts, languages))
    return z, weights


@given(problems(), st.sampled_from([0.1, 0.2, 1.0]))
def test_equals_the_definition(problem, temperature):
    z, weights = problem
    found = contrastive(z, temperature=temperature, row_weights=torch.tensor(weights)).loss
    np.testing.assert_allclose(found.numpy(), reference(z, weights, temperature), atol=1e-9)


@given(problems(), st.randoms())
def test_the_order_of_prompts_and_languages_does_not_matter(problem, random):
    z, weights = map(torch.tensor, problem)
    prompts, languages = list(range(len(z))), list(range(1, z.shape[1]))
    random.shuffle(prompts)
    random.shuffle(languages)
    order = [0, *languages]
    plain = contrastive(z, row_weights=weights).loss
    moved = contrastive(z[prompts][:, order], row_weights=weights[prompts][:, order]).loss
    torch.testing.assert_close(moved, plain[prompts])


def test_a_masked_prompt_is_as_if_it_were_not_there():
    z = random_rows(4, 3, 5)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[2] = False
    found = contrastive(z, mask=mask).loss
    kept = contrastive(z[[0, 1, 3]]).loss
    torch.testing.assert_close(found[[0, 1, 3]], kept)
    assert found[2] == 0


def test_a_masked_language_is_as_if_it_were_not_there():
    z = random_rows(3, 4, 5)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[:, 2] = False
    torch.testing.assert_close(contrastive(z, mask=mask).loss, contrastive(z[:, [0, 1, 3]]).loss)


def test_what_masked_rows_hold_gets_no_gradient():
    z = random_rows(3, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, True], [False, True, True]])
    other = torch.where(mask.unsqueeze(-1), z, 1e6).requires_grad_()
    result = contrastive(other, mask=mask)
    torch.testing.assert_close(result.loss, contrastive(z, mask=mask).loss)
    assert result.loss[2] == 0
    result.loss.sum().backward()
    assert other.grad[~mask].abs().max() == 0
    assert torch.isfinite(other.grad).all()


# Gradients.


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(masked):
    z = random_rows(3, 3, 4, seed=2).requires_grad_()
    mask = torch.tensor([[True, True, True], [True, False, True], [True, True, True]]) if masked else None
    assert torch.autograd.gradcheck(lambda x: contrastive(x, mask=mask).loss, z)


def test_the_english_anchor_gets_no_gradient_and_the_others_do():
    z = random_rows(3, 3, 4).requires_grad_()
    anchored = contrastive(z, anchor="english").loss
    torch.testing.assert_close(anchored, contrastive(z).loss)
    anchored.sum().backward()
    assert z.grad[:, 0].abs().max() == 0
    assert z.grad[:, 1:].abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", ["identical", "a zero row", "all zero", "one language", "no English row"])
def test_degenerate_input_is_finite(rows, dtype):
    z = random_rows(3, 4, 5).to(dtype)
    mask = torch.ones(3, 4, dtype=torch.bool)
    if rows == "identical":
        z = z[:1, :1].expand(3, 4, 5).clone()
    elif rows == "a zero row":
        z[1, 2] = 0
    elif rows == "all zero":
        z = torch.zeros_like(z)
    elif rows == "one language":
        z, mask = z[:, :1].clone(), mask[:, :1]
    else:
        mask[:, 0] = False
    z.requires_grad_()
    result = consistency_loss(z, form="contrastive", mask=mask)
    result.loss.sum().backward()
    assert result.loss.dtype == torch.float32
    assert torch.isfinite(result.loss).all()
    assert torch.isfinite(z.grad).all()
