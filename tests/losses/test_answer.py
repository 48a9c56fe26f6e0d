import math

import pytest
import torch

from mlc.losses import answer_loss

HALF = [math.log(0.5), math.log(0.5)]
NINE = [math.log(0.9), math.log(0.1)]


def logits(*languages):
    """[1, L, 1, V] from the log-probabilities of one token in each language."""
    return torch.tensor([[[row] for row in languages]], dtype=torch.float64, requires_grad=True)


def kl(first, second):
    return sum(math.exp(a) * (a - b) for a, b in zip(first, second, strict=True))


MIDDLE = [math.log(0.7), math.log(0.3)]


# Values by hand.


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("forward", kl(NINE, HALF)),
        ("reverse", kl(HALF, NINE)),
        ("jsd", (kl(NINE, MIDDLE) + kl(HALF, MIDDLE)) / 2),
    ],
)
def test_values_by_hand(divergence, expected):
    # A constant added to all logits changes nothing.
    found = answer_loss(logits(NINE, [3.0, 3.0]), divergence=divergence)
    assert found.item() == pytest.approx(expected)


def test_jsd_is_at_most_log_two():
    assert answer_loss(logits([50.0, 0.0], [0.0, 50.0]), divergence="jsd").item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_equal_distributions_cost_nothing(divergence):
    found = answer_loss(logits(NINE, NINE, NINE), divergence=divergence)
    assert found.item() == pytest.approx(0.0, abs=1e-12)


def test_the_mean_is_over_the_tokens_that_there_are():
    both = torch.cat([logits(NINE, HALF), logits(HALF, HALF), logits(NINE, [9.0, -9.0])], dim=2)
    tokens = torch.tensor([[True, True, False]])
    assert answer_loss(both, tokens=tokens).item() == pytest.approx(kl(NINE, HALF) / 2)


def test_languages_and_rows_have_weights():
    given = logits(NINE, HALF, NINE)
    weighted = answer_loss(given, language_weights=torch.tensor([1.0, 1.0, 3.0]))
    assert weighted.item() == pytest.approx(kl(NINE, HALF) / 4)
    assert answer_loss(given, row_weights=torch.tensor([[1.0, 2.0, 0.0]])).item() == pytest.approx(kl(NINE, HALF))
    assert answer_loss(given, mask=torch.tensor([[True, True, False]])).item() == pytest.approx(kl(NINE, HALF))


def test_another_teacher_reads_the_english_prompt():
    given = logits([0.0, 7.0], HALF)
    assert answer_loss(given, teacher=torch.tensor([[NINE]])).item() == pytest.approx(kl(NINE, HALF), rel=1e-6)


# Gradients.


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_neither_english_nor_the_teacher_gets_a_gradient(divergence):
    given, teacher = logits(NINE, HALF), torch.tensor([[NINE]], requires_grad=True)
    answer_loss(given, divergence=divergence).sum().backward()
    assert given.grad[0, 0].tolist() == [[0.0, 0.0]]
    assert given.grad[0, 1, 0, 0] < 0 < given.grad[0, 1, 0, 1]
    given.grad = None
    answer_loss(given, teacher=teacher, divergence=divergence).sum().backward()
    assert teacher.grad is None
    assert given.grad[0, 0].tolist() == [[0.0, 0.0]]


def test_the_forward_gradient_is_the_difference_of_the_distributions():
    given = logits(NINE, HALF)
    answer_loss(given).sum().backward()
    assert given.grad[0, 1, 0].tolist() == pytest.approx([0.5 - 0.9, 0.5 - 0.1])


# What does not count.


def test_what_is_masked_may_be_anything():
    given = torch.full((2, 3, 2, 4), math.nan, dtype=torch.float64)
    given[0, :2, 0] = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    given.requires_grad_()
    mask = torch.tensor([[True, True, False], [False, True, True]])
    tokens = torch.tensor([[True, False], [True, True]])
    found = answer_loss(given, mask=mask, tokens=tokens)
    assert found[0] > 0
    assert found[1] == 0
    found.sum().backward()
    assert torch.isfinite(given.grad).all()
    assert given.grad[0, 1, 0].abs().sum() > 0
    assert given.grad.abs().sum().item() == pytest.approx(given.grad[0, 1, 0].abs().sum().item())


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
def test_what_neither_can_say_counts_nothing(divergence):
    plain, wide = (logits(NINE, HALF), logits([*NINE, -math.inf], [*HALF, -math.inf]))
    losses = [answer_loss(given, divergence=divergence) for given in (plain, wide)]
    assert torch.equal(*losses)
    torch.stack(losses).sum().backward()
    assert torch.equal(wide.grad[..., :2], plain.grad)
    assert wide.grad[..., 2].abs().sum() == 0


@pytest.mark.parametrize(("divergence", "sure"), [("forward", 0), ("reverse", 1)])
def test_what_one_side_cannot_say_is_infinite_only_where_the_other_can(divergence, sure):
    some, any_of = [0.0, -math.inf], HALF
    given = logits(some, any_of) if sure == 0 else logits(any_of, some)
    # All of one token where the other has half: ln 2.
    loss = answer_loss(given, divergence=divergence)
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert torch.isfinite(given.grad).all()
    with pytest.raises(ValueError, match="must be finite"):
        answer_loss(given.detach().flip(1), divergence=divergence)


def test_english_alone_and_an_answer_without_tokens_have_nothing_to_learn():
    assert answer_loss(logits(NINE)).tolist() == [0.0]
    assert answer_loss(logits(NINE, HALF), tokens=torch.tensor([[False]])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (torch.zeros(1, 2, 3), {}, r"must be \[B, L, K, V\]"),
        (torch.zeros(1, 2, 0, 3), {}, "at least one of each"),
        (torch.zeros(1, 2, 1, 3), {"divergence": "tv"}, "one of forward, reverse, jsd, not 'tv'"),
        (torch.zeros(1, 2, 1, 3), {"teacher": torch.zeros(1, 1, 4)}, "must share a vocabulary"),
        (torch.zeros(1, 2, 1, 3), {"tokens": torch.ones(1, 1)}, r"tokens must be bool \[1, 1\]"),
        (torch.full((1, 2, 1, 3), math.nan), {}, "must be finite"),
    ],
)
def test_mistakes_are_told(given, options, message):
    with pytest.raises(ValueError, match=message):
        answer_loss(given, **options)
