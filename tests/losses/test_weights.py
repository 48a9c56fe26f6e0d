import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc.losses import consistency_loss

FORMS = ("released", "paper", "cosine", "contrastive")
EVERY_CHOICE = list(itertools.product(FORMS, (False, True), ("none", "english")))


def random_rows(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("form", "signed", "anchor"), EVERY_CHOICE)
def test_weight_one_everywhere_is_the_unweighted_loss(form, signed, anchor):
    z = random_rows(3, 4, 6)
    choices = {"form": form, "signed": signed, "anchor": anchor}
    plain = consistency_loss(z, **choices)
    weighted = consistency_loss(z, language_weights=torch.ones(4), row_weights=torch.ones(3, 4), **choices)
    assert torch.equal(weighted.loss, plain.loss)
    assert torch.equal(weighted.collinearity, plain.collinearity)


@pytest.mark.parametrize(("form", "signed", "anchor"), EVERY_CHOICE)
def test_weight_zero_is_a_masked_row(form, signed, anchor):
    z = random_rows(3, 4, 6)
    choices = {"form": form, "signed": signed, "anchor": anchor}
    mask = torch.tensor([[True, True, False, True], [False, True, True, True], [True, False, False, False]])
    masked = consistency_loss(z, mask=mask, **choices)
    weighted = consistency_loss(z, row_weights=mask.double(), **choices)
    assert torch.equal(weighted.loss, masked.loss)
    assert torch.equal(weighted.singular_values, masked.singular_values)
    by_language = consistency_loss(z, language_weights=torch.tensor([1.0, 1.0, 0.0, 1.0]), **choices)
    torch.testing.assert_close(by_language.loss, consistency_loss(z[:, [0, 1, 3]], **choices).loss)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("signed", [False, True])
@given(st.lists(st.integers(1, 3), min_size=2, max_size=4), st.integers(0, 1000))
def test_a_row_of_weight_two_counts_as_the_row_twice(form, signed, counts, seed):
    z = random_rows(1, len(counts), 12, seed=seed)
    repeated = z.repeat_interleave(torch.tensor(counts), dim=1)
    weights = torch.tensor([counts], dtype=torch.float64)
    weighted = consistency_loss(z, form=form, signed=signed, row_weights=weights)
    plain = consistency_loss(repeated, form=form, signed=signed)
    assert weighted.loss.item() == pytest.approx(plain.loss.item(), abs=1e-6)
    assert weighted.collinearity.item() == pytest.approx(plain.collinearity.item(), abs=1e-9)
    np.testing.assert_allclose(weighted.singular_values[0], plain.singular_values[0, : len(counts)], atol=1e-9)


@pytest.mark.parametrize(("form", "signed", "anchor"), EVERY_CHOICE)
def test_the_loss_is_continuous_where_a_weight_vanishes(form, signed, anchor):
    z = random_rows(3, 4, 6)
    faint, gone = torch.ones(3, 4), torch.ones(3, 4)
    faint[:, 2], gone[:, 2] = 1e-5, 0.0
    choices = {"form": form, "signed": signed, "anchor": anchor}
    near = consistency_loss(z, row_weights=faint, **choices).loss
    # Singular values below the cut count as zero: the root of the weight is what is seen of it.
    torch.testing.assert_close(near, consistency_loss(z, row_weights=gone, **choices).loss, atol=0.05, rtol=0)


def test_weighted_cosine_by_hand():
    z = torch.tensor([[[1.0, 0], [0, 1], [-1, 0]]])
    anchored = {"form": "cosine", "anchor": "english"}
    # Distances to English: 1 with weight 3, 2 with weight 1.
    weights = torch.tensor([1.0, 3.0, 1.0])
    assert consistency_loss(z, language_weights=weights, **anchored).loss.item() == pytest.approx(5 / 4)
    # The third pair has distance 1 and weight 3: (3·1 + 1·2 + 3·1) / 7.
    assert consistency_loss(z, form="cosine", language_weights=weights).loss.item() == pytest.approx(8 / 7)


def test_weighted_paper_form_by_hand():
    # Orthogonal rows of weights 4 and 1: singular values 2 and 1, and three more zeros from the row that counts thrice
    # more.
    z = torch.eye(2, dtype=torch.float64)[None]
    found = consistency_loss(z, form="paper", temperature=1.0, row_weights=torch.tensor([[4.0, 1.0]]))
    expected = math.log((math.exp(2) + math.e + 3) / math.exp(2))
    assert found.loss.item() == pytest.approx(expected, abs=1e-9)
    assert found.singular_values[0].tolist() == pytest.approx([2.0, 1.0])
    assert found.collinearity.item() == pytest.approx(4 / 5)


def test_language_and_row_weights_are_multiplied_with_the_mask():
    z = random_rows(2, 3, 5)
    languages = torch.tensor([1.0, 2.0, 0.5])
    rows = torch.tensor([[1.0, 0.5, 0.2], [1.0, 1.0, 3.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = consistency_loss(z, mask=mask, language_weights=languages, row_weights=rows)
    torch.testing.assert_close(found.loss, consistency_loss(z, row_weights=languages * rows * mask).loss)


# The released form and the anchor stop gradients that differences see.
@pytest.mark.parametrize(
    ("form", "signed"), [("paper", False), ("paper", True), ("cosine", True), ("contrastive", True)]
)
def test_gradcheck_with_weights(form, signed):
    z = random_rows(2, 3, 5, seed=4).requires_grad_()
    weights = torch.tensor([[1.0, 0.3, 2.0], [1.0, 0.0, 0.5]])
    assert torch.autograd.gradcheck(
        lambda x: consistency_loss(x, form=form, signed=signed, row_weights=weights).loss, z
    )


def test_weights_get_no_gradient():
    weights = torch.ones(2, 3, requires_grad=True)
    loss = consistency_loss(random_rows(2, 3, 4).requires_grad_(), row_weights=weights).loss.sum()
    loss.backward()
    assert weights.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language_weights": torch.ones(2)}, r"language_weights must be \[3\], not \[2\]"),
        ({"row_weights": torch.ones(2, 2)}, r"row_weights must be \[2, 3\], not \[2, 2\]"),
        ({"language_weights": torch.tensor([1.0, -0.5, 1.0])}, r"language_weights must be finite.*-0\.5"),
        ({"row_weights": torch.full((2, 3), math.inf)}, "row_weights must be finite"),
        ({"row_weights": torch.full((2, 3), math.nan)}, "row_weights must be finite"),
    ],
)
def test_mistakes_name_the_argument_and_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        consistency_loss(torch.ones(2, 3, 4), **options)
