import pytest
import torch

from mlc.losses.reward_gap import reward_gap_loss


def given(count=2, size=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in ((count,), (count,), (count, size), (count, size))]


def test_values_by_hand():
    # (2 · 0.5 − 3)² + 0.25 · (1² + 2²) = 4 + 1.25, and (2 · 1 − 2)² + 0.
    gaps, reference = torch.tensor([0.5, 1.0]), torch.tensor([3.0, 2.0])
    states, kept = torch.tensor([[1.0, 2.0], [5.0, 5.0]]), torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    found = reward_gap_loss(gaps, reference, states, kept, beta=2.0, retention=0.25)
    assert found.loss.tolist() == pytest.approx([5.25, 0.0])
    assert found.gap.tolist() == [0.5, 1.0]
    assert found.retention.tolist() == pytest.approx([5.0, 0.0])


def test_without_retention_the_states_are_not_looked_at():
    gaps, reference, states, kept = given()
    plain = reward_gap_loss(gaps, reference, states, kept, retention=0.0)
    wild = reward_gap_loss(gaps, reference, states * float("nan"), kept, retention=0.0)
    assert torch.equal(plain.loss, (gaps - reference).square())
    assert torch.equal(plain.loss, wild.loss)
    assert not plain.retention.any()


def test_the_reference_gets_no_gradient_and_the_model_the_exact_one():
    gaps, reference, states, kept = (tensor.requires_grad_() for tensor in given())
    reward_gap_loss(gaps, reference, states, kept, beta=1.5, retention=2.0).loss.sum().backward()
    assert reference.grad is None
    assert kept.grad is None
    torch.testing.assert_close(gaps.grad, (2 * 1.5 * (1.5 * gaps - reference)).detach())
    torch.testing.assert_close(states.grad, (2 * 2.0 * (states - kept)).detach())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: torch.zeros(3)}, r"gaps must both be \[N\]"),
        ({3: torch.zeros(2, 4)}, r"states must both be \[2, H\]"),
        ({0: torch.tensor([0.0, float("inf")])}, "gaps must be finite"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    tensors = [changes.get(place, tensor) for place, tensor in enumerate(given())]
    with pytest.raises(ValueError, match=message):
        reward_gap_loss(*tensors)


@pytest.mark.parametrize("weights", [{"beta": 0.0}, {"retention": -1.0}])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(ValueError, match="beta must be above 0 and retention at least 0"):
        reward_gap_loss(*given(), **weights)
