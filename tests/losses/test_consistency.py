import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mlc.losses import collinearity, consistency_loss
from tests.covering import dealt

SPECTRAL = ("released", "paper")
FORMS = (*SPECTRAL, "cosine")
EVERY_CHOICE = [
    pytest.param(form, signed, anchor, id=f"{form}-{'signed' if signed else 'unsigned'}-{anchor}")
    for form, signed, anchor in itertools.product(FORMS, (False, True), ("none", "english"))
]


def loss_of(rows, **options):
    """Loss of one prompt in float64."""
    return consistency_loss(torch.as_tensor(rows, dtype=torch.float64)[None], **options).loss.item()


def random_rows(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def singular_values(rows, signed):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(norms > 0, norms, 1)
    if signed:
        unit = np.hstack([unit, np.ones((len(unit), 1))]) / math.sqrt(2)
    sigma = np.linalg.svd(unit, compute_uv=False)
    return np.concatenate([sigma, np.zeros(len(rows) - len(sigma))]) if len(sigma) < len(rows) else sigma


def reference(rows, valid, *, temperature, form, signed, anchor, scale=None):
    """The loss of one prompt [L, D] from the definition, by SVD; ``scale`` replaces the stopped sigma_1."""
    if anchor == "english" and not valid[0]:
        return 0.0
    kept = rows[valid]
    if len(kept) < 2:
        return 0.0
    if form == "cosine":
        cosines = []
        for i, j in itertools.combinations(range(len(kept)), 2):
            if anchor == "none" or i == 0:
                norm = np.linalg.norm(kept[i]) * np.linalg.norm(kept[j])
                cosines.append(kept[i] @ kept[j] / norm if norm > 0 else 0.0)
        return float(np.mean([1 - cosine for cosine in cosines]))
    sigma = singular_values(kept, signed)
    if form == "released":
        sigma = sigma / (scale or sigma[0])
    weights = np.exp(sigma / temperature)
    return float(-np.log(weights[0] / weights.sum()))


# Values derived by hand.


@pytest.mark.parametrize("languages", [2, 3, 10])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_identical_rows_give_the_floor_of_the_released_form(languages, temperature):
    rows = torch.tensor([3.0, -1.0, 2.0]).expand(languages, 3)
    expected = math.log(1 + (languages - 1) * math.exp(-1 / temperature))
    assert loss_of(rows, temperature=temperature) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("languages", [1, 2, 5, 10])
@pytest.mark.parametrize("form", SPECTRAL)
def test_orthonormal_rows_give_log_of_the_number_of_languages(languages, form):
    assert loss_of(torch.eye(languages, 12), form=form) == pytest.approx(math.log(languages), abs=1e-9)


def test_range_of_the_released_and_the_paper_form_for_ten_languages():
    orthonormal, collinear = torch.eye(10), torch.ones(10, 10)
    assert loss_of(orthonormal) == pytest.approx(2.302585, abs=1e-6)
    assert loss_of(collinear) == pytest.approx(0.0588739, abs=1e-6)
    # ln(1 + 9 e^(-5 sqrt 10)): the paper form saturates.
    assert loss_of(collinear, form="paper") == pytest.approx(1.2225e-6, rel=1e-2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("anchor", ["none", "english"])
def test_a_single_language_has_loss_zero(form, anchor):
    assert loss_of([[1.0, 2.0]], form=form, anchor=anchor) == 0.0


def test_two_rows_with_cosine_six_tenths():
    # sigma^2 = 1.6 and 0.4, so sigma_1 = 2 sigma_2 and sigma_2 = 0.6324555.
    rows = [[1.0, 0.0], [0.6, 0.8]]
    assert loss_of(rows, form="paper", temperature=0.5) == pytest.approx(math.log(1 + math.exp(-1.264911)), abs=1e-6)
    assert loss_of(rows, form="released", temperature=0.5) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-12)
    assert loss_of(rows, form="cosine") == pytest.approx(0.4, abs=1e-12)


def test_three_rows_with_equal_cosines():
    # Gram entries 1/2 off the diagonal: sigma^2 = 2, 1/2, 1/2.
    half = math.sqrt(3) / 2
    rows = [[1, 0, 0], [0.5, half, 0], [0.5, half / 3, math.sqrt(2 / 3)]]
    result = consistency_loss(torch.tensor([rows], dtype=torch.float64), form="paper", temperature=1.0)
    expected = [math.sqrt(2), math.sqrt(0.5), math.sqrt(0.5)]
    assert result.singular_values[0].tolist() == pytest.approx(expected, abs=1e-9)
    assert result.loss.item() == pytest.approx(math.log(1 + 2 * math.exp(math.sqrt(0.5) - math.sqrt(2))), abs=1e-9)
    assert result.collinearity.item() == pytest.approx(2 / 3, abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "anchor", "expected"),
    [
        ([[1, 0], [5, 0], [2, 0]], "none", 0.0),
        ([[1, 0], [-1, 0]], "none", 2.0),
        ([[1, 0], [0, 1]], "none", 1.0),
        # Pairs: (0, 1) cos 1, (0, 2) cos 0, (1, 2) cos 0; the anchored form has the first two only.
        ([[1, 0], [2, 0], [0, 1]], "none", 2 / 3),
        ([[1, 0], [2, 0], [0, 1]], "english", 0.5),
        # Pair (1, 2) is opposite: it counts only without the anchor.
        ([[1, 0], [0, 1], [0, -1]], "none", 4 / 3),
        ([[1, 0], [0, 1], [0, -1]], "english", 1.0),
    ],
)
def test_cosine_form_by_hand(rows, anchor, expected):
    assert loss_of(rows, form="cosine", anchor=anchor) == pytest.approx(expected, abs=1e-12)


def test_opposite_rows_are_consistent_without_signs_and_orthogonal_with_them():
    opposite, orthogonal, same = [[1.0, 2.0], [-1.0, -2.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]]
    for form in SPECTRAL:
        assert loss_of(opposite, form=form) == pytest.approx(loss_of(same, form=form), abs=1e-9)
        assert loss_of(opposite, form=form, signed=True) == pytest.approx(loss_of(orthogonal, form=form), abs=1e-9)
        assert loss_of(same, form=form, signed=True) == pytest.approx(loss_of(same, form=form), abs=1e-9)


def test_signed_orthogonal_rows_by_hand():
    # Gram entries (1 + 0) / 2: sigma^2 = 1.5 and 0.5, their roots in the ratio 1 : 1 / sqrt 3.
    expected = math.log(1 + math.exp((1 / math.sqrt(3) - 1) / 0.2))
    assert loss_of([[1.0, 0.0], [0.0, 1.0]], signed=True) == pytest.approx(expected, abs=1e-9)


def test_singular_values_and_collinearity_ignore_the_sign_option():
    z = random_rows(2, 4, 6)
    plain, signed = consistency_loss(z), consistency_loss(z, signed=True)
    assert torch.equal(plain.singular_values, signed.singular_values)
    assert not torch.allclose(plain.loss, signed.loss)


# The independent reference.


@st.composite
def problems(draw):
    prompts, languages, size = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 8))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    z = generator.normal(size=(prompts, languages, size)) * 10.0 ** draw(st.integers(-3, 3))
    mask = np.array(draw(st.lists(st.booleans(), min_size=prompts * languages, max_size=prompts * languages)))
    return z, mask.reshape(prompts, languages)


def options():
    return st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.1, 0.2, 1.0, 3.0]),
            "form": st.sampled_from(FORMS),
            "signed": st.booleans(),
            "anchor": st.sampled_from(["none", "english"]),
        }
    )


def far_from_the_cut(z, mask, choices):
    """Whether no singular value lies where the loss counts it as zero and the definition does not."""
    for rows, valid in zip(z, mask, strict=True):
        if valid.any():
            sigma = singular_values(rows[valid], choices["signed"])
            if ((sigma > 1e-10) & (sigma < 1e-3)).any():
                return False
    return True


@given(problems(), options())
def test_equals_the_reference(problem, choices):
    z, mask = problem
    assume(far_from_the_cut(z, mask, choices))
    result = consistency_loss(torch.tensor(z), mask=torch.tensor(mask), **choices)
    expected = [reference(rows, valid, **choices) for rows, valid in zip(z, mask, strict=True)]
    np.testing.assert_allclose(result.loss.numpy(), expected, atol=1e-8)
    for b, valid in enumerate(mask):
        if valid.any():
            sigma = singular_values(z[b][valid], signed=False)
            np.testing.assert_allclose(result.singular_values[b].numpy()[: len(sigma)], sigma, atol=4e-4)
            assert result.singular_values[b].numpy()[len(sigma) :].tolist() == [0.0] * int((~valid).sum())
            assert result.collinearity[b].item() == pytest.approx(sigma[0] ** 2 / valid.sum(), abs=1e-8)


# Relations.


@given(problems(), options(), st.randoms(use_true_random=False))
def test_permuting_languages_changes_nothing(problem, choices, random):
    z, mask = problem
    order = list(range(1, z.shape[1]))
    random.shuffle(order)
    order = [0, *order]
    if choices["anchor"] == "none":
        random.shuffle(order)
    before = consistency_loss(torch.tensor(z), mask=torch.tensor(mask), **choices).loss
    after = consistency_loss(torch.tensor(z[:, order]), mask=torch.tensor(mask[:, order]), **choices).loss
    # The cut of small singular values may fall on either side.
    torch.testing.assert_close(after, before, atol=5e-3, rtol=0)


@given(problems(), options(), st.floats(1e-3, 1e3))
def test_rescaling_a_row_changes_nothing(problem, choices, factor):
    z, mask = problem
    scaled = z.copy()
    scaled[:, -1] *= factor
    before = consistency_loss(torch.tensor(z), mask=torch.tensor(mask), **choices).loss
    after = consistency_loss(torch.tensor(scaled), mask=torch.tensor(mask), **choices).loss
    torch.testing.assert_close(after, before, atol=5e-3, rtol=0)


@pytest.mark.parametrize("form", SPECTRAL)
def test_flipping_a_sign_changes_nothing_unless_signed(form):
    z = random_rows(3, 4, 6)
    flipped = z * torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(consistency_loss(flipped, form=form).loss, consistency_loss(z, form=form).loss)
    for sign_aware in ({"form": form, "signed": True}, {"form": "cosine"}):
        difference = consistency_loss(flipped, **sign_aware).loss - consistency_loss(z, **sign_aware).loss
        assert (difference.abs() > 1e-3).all()


@given(problems(), options())
def test_masked_rows_are_as_if_they_were_not_there(problem, choices):
    z, mask = problem
    assume(far_from_the_cut(z, mask, choices))
    result = consistency_loss(torch.tensor(z), mask=torch.tensor(mask), **choices)
    for b, valid in enumerate(mask):
        if choices["anchor"] == "english" and not valid[0]:
            assert result.loss[b] == 0.0
        elif valid.any():
            smaller = consistency_loss(torch.tensor(z[b : b + 1, valid]), **choices)
            torch.testing.assert_close(result.loss[b], smaller.loss[0], atol=1e-9, rtol=0)
            torch.testing.assert_close(result.collinearity[b], smaller.collinearity[0], atol=1e-9, rtol=0)
        else:
            assert result.loss[b] == 0.0


@pytest.mark.parametrize(("form", "signed", "anchor"), EVERY_CHOICE)
def test_what_masked_rows_hold_does_not_matter_and_gets_no_gradient(form, signed, anchor):
    mask = torch.tensor([[True, True, False, True]])
    z = random_rows(1, 4, 5)
    other = z.clone()
    other[0, 2] = 1e6
    other.requires_grad_()
    choices = {"form": form, "signed": signed, "anchor": anchor, "mask": mask}
    result = consistency_loss(other, **choices)
    # Both with gradient: without it, LAPACK takes another way to the eigenvalues.
    assert torch.equal(result.loss, consistency_loss(z.requires_grad_(), **choices).loss)
    result.loss.sum().backward()
    assert other.grad[0, 2].abs().max() == 0
    assert other.grad[0, 1].abs().max() > 1e-3


@given(problems(), options())
def test_ranges(problem, choices):
    z, mask = problem
    result = consistency_loss(torch.tensor(z), mask=torch.tensor(mask), **choices)
    count = mask.sum(axis=1)
    upper = 2.0 if choices["form"] == "cosine" else np.log(np.maximum(count, 1)) + 1e-6
    assert (result.loss.numpy() >= -1e-9).all()
    assert (result.loss.numpy() <= upper + 1e-9).all()
    some = count > 0
    assert (result.collinearity.numpy()[some] <= 1 + 1e-9).all()
    assert (result.collinearity.numpy()[some] >= 1 / count[some] - 1e-9).all()


def test_prompts_do_not_influence_each_other():
    z = random_rows(3, 4, 5)
    whole = consistency_loss(z).loss
    assert [loss_of(rows) for rows in z] == pytest.approx(whole.tolist(), abs=1e-12)


# Gradients.


def numeric_gradient(rows, valid, choices):
    """Central differences of the reference; sigma_1 of the released form and an anchored English row stand still."""
    scale = singular_values(rows[valid], choices["signed"])[0]
    gradient, step = np.zeros_like(rows), 1e-6
    for index in np.ndindex(rows.shape):
        if choices["anchor"] == "english" and index[0] == 0:
            continue
        values = []
        for direction in (1, -1):
            moved = rows.copy()
            moved[index] += direction * step
            values.append(reference(moved, valid, scale=scale, **choices))
        gradient[index] = (values[0] - values[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize(("form", "signed", "anchor"), EVERY_CHOICE)
@pytest.mark.parametrize("shape", [(3, 5), (4, 2)], ids=["L<D", "L>D"])
def test_gradient_equals_central_differences_of_the_reference(form, signed, anchor, shape):
    z = random_rows(1, *shape, seed=3)
    choices = {"form": form, "signed": signed, "anchor": anchor, "temperature": 0.4}
    leaf = z.clone().requires_grad_()
    consistency_loss(leaf, **choices).loss.sum().backward()
    expected = numeric_gradient(z[0].numpy(), np.ones(shape[0], dtype=bool), choices)
    np.testing.assert_allclose(leaf.grad[0].numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("signed", [False, True])
def test_gradcheck_where_lower_singular_values_coincide(signed):
    # Equal off-diagonal Gram entries: sigma_2 = sigma_3, and the loss is still differentiable.
    half = math.sqrt(3) / 2
    z = torch.tensor([[[1, 0, 0], [0.5, half, 0], [0.5, half / 3, math.sqrt(2 / 3)]]], dtype=torch.float64)
    sigma = consistency_loss(z).singular_values[0]
    assert sigma[1] == pytest.approx(sigma[2].item(), abs=1e-9)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: consistency_loss(x, form="paper", signed=signed).loss, z)


@pytest.mark.parametrize("form", ["paper", "cosine"])
def test_gradcheck_with_vanishing_singular_values(form):
    # Five languages in two dimensions: three singular values are zero wherever the rows go.
    z = random_rows(2, 5, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: consistency_loss(x, form=form).loss, z)


def degenerate_batches():
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(6, generator=generator)
    several = torch.randn(4, 6, generator=generator)
    zero_row = several.clone()
    zero_row[2] = 0
    zero_english = several.clone()
    zero_english[0] = 0
    yield "identical rows", row.expand(4, 6), None
    yield "two pairs of identical rows", several[[0, 0, 1, 1]], None
    yield "opposite rows", torch.stack([row, -row, row, -row]), None
    yield "orthonormal rows", torch.eye(4, 6), None
    yield "a zero row", zero_row, None
    yield "a zero English row", zero_english, None
    yield "all rows zero", torch.zeros(4, 6), None
    yield "one language", row[None], None
    yield "more languages than dimensions", torch.randn(7, 2, generator=generator), None
    yield "one dimension", torch.randn(5, 1, generator=generator), None
    yield "one valid row", several, torch.tensor([True, False, False, False])
    yield "no valid row", several, torch.zeros(4, dtype=torch.bool)
    yield "no English row", several, torch.tensor([False, True, True, True])
    for exponent in range(-8, -1):
        yield f"nearly identical rows 1e{exponent}", row + 10.0**exponent * several, None


DEGENERATE = {name: (rows, mask) for name, rows, mask in degenerate_batches()}


@pytest.mark.parametrize(("name", "dtype"), dealt(DEGENERATE, [torch.float64, torch.bfloat16, torch.float32]))
def test_degenerate_input_has_a_finite_loss_and_a_bounded_gradient(name, dtype):
    rows, mask = DEGENERATE[name]
    for form, signed, anchor in itertools.product(FORMS, (False, True), ("none", "english")):
        z = rows[None].to(dtype, copy=True).requires_grad_()
        result = consistency_loss(z, form=form, signed=signed, anchor=anchor, mask=None if mask is None else mask[None])
        assert torch.isfinite(result.loss).all()
        assert torch.isfinite(result.collinearity).all()
        result.loss.sum().backward()
        assert torch.isfinite(z.grad).all()
        # No singular value moves faster than the unit rows do, and the softmax divides by the temperature.
        shortest = min((norm for norm in rows.norm(dim=1).tolist() if norm > 0), default=1.0)
        assert z.grad.float().norm() <= 1.1 * len(rows) ** 0.5 / 0.2 / shortest


@pytest.mark.parametrize("form", FORMS)
def test_no_gradient_where_nothing_can_improve(form):
    for rows, mask in (
        (torch.tensor([1.0, 2.0, -1.0]).expand(4, 3), None),
        (random_rows(1, 3), None),
        (random_rows(3, 3), torch.tensor([[False, True, False]])),
    ):
        z = rows.to(torch.float64)[None].clone().requires_grad_()
        consistency_loss(z, form=form, mask=mask).loss.sum().backward()
        assert z.grad.abs().max() < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_a_step_against_the_gradient_lowers_the_loss(form):
    z = random_rows(2, 4, 6, seed=5).requires_grad_()
    choices = {"form": form, "signed": True, "temperature": 1.0}
    before = consistency_loss(z, **choices).loss.sum()
    before.backward()
    after = consistency_loss(z.detach() - 0.01 * z.grad, **choices).loss.sum()
    # To first order the loss falls by the step times the squared gradient; in the released form sigma_1 moves as well.
    expected = 0.01 * z.grad.square().sum().item()
    assert (before - after).item() == pytest.approx(expected, rel=0.5 if form == "released" else 0.05)


@pytest.mark.parametrize("form", FORMS)
def test_the_english_anchor_gets_no_gradient_and_the_others_do(form):
    z = random_rows(2, 4, 6).requires_grad_()
    anchored = consistency_loss(z, form=form, anchor="english").loss
    anchored.sum().backward()
    assert z.grad[:, 0].abs().max() == 0
    assert z.grad[:, 1:].abs().amax(dim=-1).min() > 1e-4
    if form != "cosine":
        assert torch.equal(anchored, consistency_loss(z, form=form).loss)


def test_collinearity_is_told_without_a_loss():
    z, mask = random_rows(3, 4, 6), torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    found = collinearity(z.requires_grad_(), mask)
    assert torch.equal(found, consistency_loss(z, mask=mask).collinearity)
    assert not found.requires_grad
    assert found[2] == 0
    with pytest.raises(ValueError, match=r"z must be \[B, L, D\]"):
        collinearity(z[0])


def test_what_is_watched_is_detached():
    result = consistency_loss(random_rows(2, 3, 4).requires_grad_())
    assert result.loss.requires_grad
    assert not result.singular_values.requires_grad
    assert not result.collinearity.requires_grad


# Types.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_input_is_computed_in_float32(dtype, form):
    z = random_rows(2, 4, 6).to(dtype)
    result = consistency_loss(z, form=form, signed=True)
    assert result.loss.dtype == torch.float32
    assert torch.equal(result.loss, consistency_loss(z.float(), form=form, signed=True).loss)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_changes_nothing(form):
    plain = random_rows(2, 4, 6).float().requires_grad_()
    under = plain.detach().clone().requires_grad_()
    expected = consistency_loss(plain, form=form)
    expected.loss.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (under[0] @ under[0].T).dtype == torch.bfloat16
        result = consistency_loss(under, form=form)
    result.loss.sum().backward()
    assert result.loss.dtype == torch.float32
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(under.grad, plain.grad)


def test_float64_stays_float64():
    assert consistency_loss(random_rows(1, 2, 3)).loss.dtype == torch.float64


# Mistakes.


@pytest.mark.parametrize(
    ("z", "options", "message"),
    [
        (torch.ones(2, 3), {}, r"z must be \[B, L, D\].*not \[2, 3\]"),
        (torch.ones(0, 2, 3), {}, r"z must be.*not \[0, 2, 3\]"),
        (torch.ones(1, 0, 3), {}, r"z must be.*not \[1, 0, 3\]"),
        (torch.ones(1, 2, 3, dtype=torch.long), {}, r"z must be floating point, not torch\.int64"),
        (torch.tensor([[[1.0, math.nan]]]), {}, "z and the squared lengths of its rows in float32 must be finite"),
        (torch.tensor([[[1.0, math.inf]]]), {}, "z and the squared lengths of its rows in float32 must be finite"),
        (torch.ones(1, 2, 3), {"temperature": 0.0}, r"temperature must be above 0, not 0\.0"),
        (torch.ones(1, 2, 3), {"temperature": -2.5}, r"temperature must be above 0, not -2\.5"),
        (torch.ones(1, 2, 3), {"temperature": math.nan}, "temperature must be above 0, not nan"),
        (
            torch.ones(1, 2, 3),
            {"form": "spectral"},
            "form must be one of cosine, contrastive, released, paper, not 'spectral'",
        ),
        (torch.ones(1, 2, 3), {"anchor": "first"}, "anchor must be one of none, english, not 'first'"),
        (torch.ones(1, 2, 3), {"mask": torch.ones(1, 3, dtype=torch.bool)}, r"mask must be bool \[1, 2\].*\[1, 3\]"),
        (torch.ones(1, 2, 3), {"mask": torch.ones(1, 2)}, r"mask must be bool \[1, 2\], not torch\.float32"),
    ],
)
def test_mistakes_name_the_argument_and_the_value(z, options, message):
    with pytest.raises(ValueError, match=message):
        consistency_loss(z, **options)
