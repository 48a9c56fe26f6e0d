import math

import pytest
import torch

from mlc.losses.guided import guided_loss

SURE = [math.log(0.98), math.log(0.01), math.log(0.01)]
EVEN = [math.log(1 / 3)] * 3
LEANING = [math.log(0.5), math.log(0.25), math.log(0.25)]


def logits(*tokens):
    return torch.tensor([list(tokens)], dtype=torch.float32, requires_grad=True)


def kl(first, second):
    return sum(math.exp(a) * (a - b) for a, b in zip(first, second, strict=True))


def weight(student, teacher, top):
    among = sorted((math.exp(p) for p in teacher), reverse=True)[:top]
    shares = [p / sum(among) for p in among]
    entropy = -sum(p * math.log(p) for p in shares)
    place = max(range(len(teacher)), key=teacher.__getitem__)
    return (1 - entropy / math.log(top)) * (1 - math.exp(student[place]))


@pytest.mark.parametrize("top", [2, 3])
def test_values_by_hand(top):
    found = guided_loss(logits(EVEN, LEANING), logits(SURE, LEANING), top=top)
    raw = [weight(EVEN, SURE, top), weight(LEANING, LEANING, top)]
    own = [2 * one / sum(raw) for one in raw]
    assert found.weights[0].tolist() == pytest.approx(own, rel=1e-5)
    # The second token has no divergence.
    assert found.loss.item() == pytest.approx(own[0] * kl(EVEN, SURE) / 2, rel=1e-5)


@pytest.mark.parametrize("top", [2, 4])
def test_what_neither_can_say_counts_nothing(top):
    plain, wide = logits(EVEN, LEANING), logits([*EVEN, -math.inf], [*LEANING, -math.inf])
    taught = [logits(SURE, SURE), logits([*SURE, -math.inf], [*SURE, -math.inf])]
    losses = [guided_loss(own, told, top=top).loss for own, told in zip((plain, wide), taught, strict=True)]
    torch.stack(losses).sum().backward()
    if top == 2:
        assert torch.equal(*losses)
        assert torch.equal(wide.grad[..., :3], plain.grad)
    assert torch.isfinite(wide.grad).all()
    assert wide.grad[..., 3].abs().sum() == 0


def test_it_is_the_reverse_divergence_without_weights():
    found = guided_loss(logits(EVEN, SURE), logits(SURE, EVEN), weighted=False)
    assert found.loss.item() == pytest.approx((kl(EVEN, SURE) + kl(SURE, EVEN)) / 2, rel=1e-5)
    assert found.weights.tolist() == [[1.0, 1.0]]


def test_weights_are_large_where_the_teacher_is_sure_and_the_student_is_not():
    says = [math.log(0.98), math.log(0.01), math.log(0.01)]
    unsure, said, wanted = guided_loss(logits(EVEN, says, EVEN), logits(EVEN, SURE, SURE), top=3).weights[0].tolist()
    assert unsure == pytest.approx(0.0, abs=1e-6)
    assert said < 0.1 < wanted
    assert unsure + said + wanted == pytest.approx(3.0)


def test_tokens_that_do_not_count_change_nothing():
    nan = [float("nan")] * 3
    tokens = torch.tensor([[True, False]])
    student = logits(EVEN, nan)
    found = guided_loss(student, logits(SURE, nan), tokens=tokens)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(kl(EVEN, SURE), rel=1e-5)
    assert found.weights.tolist() == [[1.0, 0.0]]
    assert torch.isfinite(student.grad).all()
    assert not student.grad[0, 1].any()


def test_neither_the_teacher_nor_the_weights_get_a_gradient():
    student, teacher = logits(EVEN, LEANING), logits(SURE, EVEN)
    found = guided_loss(student, teacher)
    assert not found.weights.requires_grad
    found.loss.backward()
    assert teacher.grad is None
    free = logits(EVEN, LEANING)
    apart = free.log_softmax(-1)
    kept = (found.weights * (apart.exp() * (apart - teacher.detach().log_softmax(-1))).sum(-1)).sum() / 2
    kept.backward()
    torch.testing.assert_close(student.grad, free.grad)


@pytest.mark.parametrize("tokens", [None, torch.zeros(1, 2, dtype=torch.bool)])
def test_equals_and_nothing_cost_nothing(tokens):
    student = logits(SURE, EVEN)
    found = guided_loss(student, logits(SURE, EVEN), tokens=tokens)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(student.grad).all()


def test_where_all_weights_vanish_tokens_count_alike():
    # Nobody is sure of anything.
    found = guided_loss(logits(SURE, LEANING), logits([0.0] * 3, [0.0] * 3), top=3)
    assert found.weights.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": torch.zeros(1, 1, 4)}, "share a vocabulary"),
        ({"top": 1}, "top must be at least 2"),
        ({"tokens": torch.ones(1, 1)}, r"tokens must be bool \[1, 1\]"),
        ({"student": torch.full((1, 1, 3), float("nan"))}, "logits must be finite"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        guided_loss(**{"student": torch.zeros(1, 1, 3), "teacher": torch.zeros(1, 1, 3), **given})
