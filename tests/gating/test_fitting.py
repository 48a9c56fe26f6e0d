"""The classifier of a gate, against values by hand."""

import math

import pytest
import torch

from mlc.errors import UserError
from mlc.gating.fitting import fit_score

SIGMOID_MINUS_ONE = 1 / (1 + math.e)


def planted(seed: int, size: int = 24, noise: float = 0.5, count: int = 200) -> tuple[torch.Tensor, ...]:
    """States with one direction that tells the classes apart, far from the origin; the direction; the classes."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(size, generator=generator), dim=0)
    harmful = torch.arange(count) % 2 == 0
    signs = torch.where(harmful, 1.0, -1.0)
    states = 100 + 2 * signs.unsqueeze(1) * direction + noise * torch.randn(count, size, generator=generator)
    return states, harmful, direction


def test_two_prompts_by_hand() -> None:
    # In one direction with variance 1 the prompts are 1 and -1, and w is where sigma(-w) = ridge * w: at 1.
    states = torch.tensor([[7.0, 3.0], [3.0, 3.0]])
    found = fit_score(states, torch.tensor([True, False]), rank=10, ridge=SIGMOID_MINUS_ONE)
    torch.testing.assert_close(found.direction_H, torch.tensor([0.5, 0.0], dtype=torch.float64))
    assert found.bias == pytest.approx(-2.5)
    torch.testing.assert_close(found.of(states), torch.tensor([1.0, -1.0], dtype=torch.float64))


def test_classes_count_alike_however_many_prompts_they_have() -> None:
    # Three harmless prompts for one harmful one leave the threshold half-way between them.
    states = torch.tensor([[1.0], [-1.0], [-1.0], [-1.0]])
    found = fit_score(states, torch.tensor([True, False, False, False]), rank=1, ridge=0.1)
    assert found.of(torch.zeros(1, 1)).item() == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("rank", [1, 10])
def test_a_planted_direction_is_found(rank: int) -> None:
    states, harmful, direction = planted(0)
    found = fit_score(states, harmful, rank=rank, ridge=0.01)
    unit = torch.nn.functional.normalize(found.direction_H, dim=0)
    assert float(unit @ direction.double()) > 0.95
    assert ((found.of(states) > 0) == harmful).all()


def test_it_lives_in_as_few_directions_as_asked() -> None:
    states, harmful, _ = planted(1)
    directions = torch.linalg.svd(states.double() - states.double().mean(dim=0)).Vh[:3]
    found = fit_score(states, harmful, rank=3, ridge=0.01).direction_H
    torch.testing.assert_close(directions.T @ (directions @ found), found)


def test_the_order_of_the_prompts_does_not_matter() -> None:
    states, harmful, _ = planted(2)
    order = torch.randperm(len(states), generator=torch.Generator().manual_seed(3))
    first = fit_score(states, harmful, rank=10, ridge=0.01)
    again = fit_score(states[order], harmful[order], rank=10, ridge=0.01)
    torch.testing.assert_close(first.direction_H, again.direction_H, rtol=1e-5, atol=1e-8)


def test_fewer_prompts_than_rank() -> None:
    states, harmful, _ = planted(4, count=4)
    assert fit_score(states, harmful, rank=10, ridge=0.01).of(states).isfinite().all()


@pytest.mark.parametrize(
    ("states", "harmful", "said"),
    [
        (torch.eye(3), torch.tensor([True, True, True]), "3 harmful and 0 harmless"),
        (torch.full((2, 3), 7.1), torch.tensor([True, False]), "the same state"),
        (torch.zeros(2, 3), torch.tensor([True, False]), "the same state"),
        (torch.tensor([[math.nan], [1.0]]), torch.tensor([True, False]), "not finite"),
    ],
)
def test_states_that_tell_nothing_are_refused(states: torch.Tensor, harmful: torch.Tensor, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fit_score(states, harmful, rank=10, ridge=0.01)


@pytest.mark.parametrize("given", [{"rank": 0}, {"ridge": 0.0}])
def test_a_wrong_setting_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rank must be"):
        fit_score(torch.eye(2), torch.tensor([True, False]), **{"rank": 1, "ridge": 0.1, **given})  # type: ignore[arg-type]
