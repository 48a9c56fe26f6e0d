"""The closed form against an independent dense solve, a numerical optimiser, and its limits."""

import numpy as np
import pytest
import torch

from mlc.editing.solve import EditStatistics, factorise, leading_svd, solve
from mlc.errors import UserError

D, M, N_LOW, N_SAFE = 12, 7, 20, 15


def problem(seed=0, d=D, m=M, low=N_LOW, safe=N_SAFE):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((low, d), (low, d), (safe, d), (d, m))
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def statistics_of(x_low, x_en, x_safe, batch=None):
    found = EditStatistics.empty(x_low.shape[1])
    for rows in torch.arange(len(x_low)).split(batch or max(len(x_low), 1)):
        found.add_harmful(x_low[rows], x_en[rows])
    for rows in torch.arange(len(x_safe)).split(batch or max(len(x_safe), 1)):
        found.add_protected(x_safe[rows])
    return found


def edit_of(x_low, x_en, x_safe, w_s, *, gamma, ridge, rank):
    statistics = statistics_of(x_low, x_en, x_safe)
    return solve(factorise(statistics, gamma, ridge), statistics, w_s, rank)


def objective(change, x_low, x_en, x_safe, w_s, gamma, ridge):
    target = (x_en - x_low) @ w_s
    return (
        (x_low @ change - target).square().sum()
        + gamma * (x_safe @ change).square().sum()
        + ridge * change.square().sum()
    )


def dense_solve(x_low, x_en, x_safe, w_s, *, gamma, ridge, rank):
    """The same by another way: the symmetric root of Q in place of its Cholesky factor, a full SVD, numpy."""
    x_low, x_en, x_safe, w_s = (part.numpy() for part in (x_low, x_en, x_safe, w_s))
    stacked = np.vstack([x_low, np.sqrt(gamma) * x_safe, np.sqrt(ridge) * np.eye(x_low.shape[1])])
    target = np.vstack([(x_en - x_low) @ w_s, np.zeros((len(x_safe) + x_low.shape[1], w_s.shape[1]))])
    free = np.linalg.lstsq(stacked, target, rcond=None)[0]
    values, vectors = np.linalg.eigh(stacked.T @ stacked)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    u, s, vt = np.linalg.svd(root @ free)
    return np.linalg.solve(root, (u[:, :rank] * s[:rank]) @ vt[:rank])


@pytest.mark.parametrize(("d", "m", "low", "safe"), [(12, 7, 20, 15), (6, 30, 20, 15), (30, 6, 9, 5), (8, 8, 50, 40)])
@pytest.mark.parametrize(("gamma", "ridge", "rank"), [(1.0, 0.1, 3), (0.0, 0.5, 1), (20.0, 1e-3, 5)])
def test_equals_an_independent_dense_solve(d, m, low, safe, gamma, ridge, rank):
    parts = problem(1, d, m, low, safe)
    found = edit_of(*parts, gamma=gamma, ridge=ridge, rank=rank)
    expected = torch.from_numpy(dense_solve(*parts, gamma=gamma, ridge=ridge, rank=rank))
    assert found.rank == rank
    assert torch.linalg.matrix_rank(found.dense()) == rank
    assert float((found.dense() - expected).norm() / expected.norm()) < 1e-8


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_no_optimiser_finds_anything_better(rank):
    parts = problem(2)
    gamma, ridge = 0.7, 0.3
    found = edit_of(*parts, gamma=gamma, ridge=ridge, rank=rank)
    best = float(objective(found.dense(), *parts, gamma, ridge))
    reached = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        left = (torch.randn(D, rank, generator=generator, dtype=torch.float64) / 3).requires_grad_()
        right = (torch.randn(rank, M, generator=generator, dtype=torch.float64) / 3).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [left, right],
            max_iter=3000,
            tolerance_grad=1e-13,
            tolerance_change=1e-16,
            history_size=50,
            line_search_fn="strong_wolfe",
        )

        def closure(optimiser=optimiser, left=left, right=right):
            optimiser.zero_grad()
            loss = objective(left @ right, *parts, gamma, ridge)
            loss.backward()
            return loss

        optimiser.step(closure)
        reached.append((float(closure().detach()), (left @ right).detach()))
    value, change = min(reached, key=lambda one: one[0])
    assert best <= value * (1 + 1e-12)
    assert value == pytest.approx(best, rel=1e-8)
    assert float((change - found.dense()).norm() / change.norm()) < 1e-4


def test_full_rank_has_no_gradient_left():
    parts = problem(3)
    change = edit_of(*parts, gamma=0.5, ridge=0.2, rank=M).dense().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(change, *parts, 0.5, 0.2), change)
    assert float(gradient.abs().max()) < 1e-10


def test_value_by_hand():
    # One input, one unit, one prompt of each class: Q = 2² + 3·1² + 1 = 8, XᵀD = 2·(5 − 2)·10 = 60, ΔW = 60 / 8.
    low, english, safe = (torch.tensor([[value]], dtype=torch.float64) for value in (2.0, 5.0, 1.0))
    found = edit_of(low, english, safe, torch.tensor([[10.0]]), gamma=3.0, ridge=1.0, rank=1)
    assert float(found.dense()) == pytest.approx(7.5, abs=1e-14)
    assert found.kept == 1.0


def test_a_large_gamma_leaves_harmless_outputs_alone():
    x_low, x_en, x_safe, w_s = problem(4, d=12, safe=5)
    plain = edit_of(x_low, x_en, x_safe, w_s, gamma=0.0, ridge=0.1, rank=4).dense()
    found = edit_of(x_low, x_en, x_safe, w_s, gamma=1e9, ridge=0.1, rank=4).dense()
    assert float((x_safe @ found).abs().max()) < 1e-6 * float((x_safe @ w_s).abs().max())
    # There are directions that no harmless prompt uses, so that harmful prompts still change.
    assert float((x_low @ found).norm()) > 0.05 * float((x_low @ plain).norm())


def test_a_large_ridge_leaves_the_weights_alone():
    parts = problem(5)
    sizes = [float(edit_of(*parts, gamma=1.0, ridge=ridge, rank=4).dense().norm()) for ridge in (1e-2, 1e3, 1e12)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-8 * float(parts[-1].norm())


def test_fewer_prompts_than_the_rank_give_the_rank_that_there_is():
    x_low, x_en, x_safe, w_s = problem(6, low=3)
    found = edit_of(x_low, x_en, x_safe, w_s, gamma=1.0, ridge=0.1, rank=6)
    assert found.rank == 3
    expected = torch.from_numpy(dense_solve(x_low, x_en, x_safe, w_s, gamma=1.0, ridge=0.1, rank=6))
    assert float((found.dense() - expected).norm() / expected.norm()) < 1e-8


def test_nothing_to_repair_gives_rank_zero():
    x_low, _, x_safe, w_s = problem(7)
    found = edit_of(x_low, x_low, x_safe, w_s, gamma=1.0, ridge=0.1, rank=4)
    assert found.rank == 0
    assert torch.equal(found.dense(), torch.zeros(D, M, dtype=torch.float64))


def test_no_units_give_an_empty_edit():
    x_low, x_en, x_safe, w_s = problem(8)
    found = edit_of(x_low, x_en, x_safe, w_s[:, :0], gamma=1.0, ridge=0.1, rank=4)
    assert found.dense().shape == (D, 0)


@pytest.mark.parametrize("copies", [1, 4])
def test_without_ridge_prompts_must_span_the_inputs(copies):
    x_low, x_en, x_safe, w_s = problem(9, low=5, safe=4)
    repeated = [part.repeat(copies, 1) for part in (x_low, x_en, x_safe)]
    with pytest.raises(UserError, match=r"no unique solution with ridge 0.*do not span the 12 inputs"):
        edit_of(*repeated, w_s, gamma=1.0, ridge=0.0, rank=2)


def test_without_ridge_enough_prompts_suffice():
    parts = problem(10)
    found = edit_of(*parts, gamma=0.0, ridge=0.0, rank=M).dense()
    expected = torch.linalg.lstsq(parts[0], (parts[1] - parts[0]) @ parts[3]).solution
    assert float((found - expected).norm() / expected.norm()) < 1e-10


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_streaming_equals_all_at_once(batch):
    parts = problem(11, d=16, low=101, safe=57)
    # Far from the origin, where naive sums lose digits.
    x_low, x_en, x_safe = (part + 30 for part in parts[:3])
    found = statistics_of(x_low, x_en, x_safe, batch)
    for sums, expected in (
        (found.low_DD, x_low.T @ x_low),
        (found.cross_DD, x_low.T @ (x_en - x_low)),
        (found.safe_DD, x_safe.T @ x_safe),
    ):
        assert float((sums - expected).abs().max() / expected.abs().max()) < 1e-14
    changes = [
        solve(factorise(one, 1.0, 0.1), one, parts[3], 5).dense() for one in (found, statistics_of(x_low, x_en, x_safe))
    ]
    assert float((changes[0] - changes[1]).norm() / changes[1].norm()) < 1e-10


def test_scales():
    x_low, x_en, x_safe, _ = problem(12)
    found = statistics_of(x_low, x_en, x_safe)
    assert found.scaled(2.0, 0.5, "absolute") == (2.0, 0.5)
    gamma, ridge = found.scaled(2.0, 0.5, "relative")
    assert gamma == pytest.approx(2.0 * N_LOW / N_SAFE)
    assert ridge == pytest.approx(0.5 * float(x_low.square().sum()) / D)


def test_relative_penalties_do_not_see_repetition_or_size():
    x_low, x_en, x_safe, w_s = problem(13)
    changes = []
    for copies, size in ((1, 1.0), (3, 1.0), (1, 40.0)):
        parts = [part.repeat(copies, 1) * size for part in (x_low, x_en, x_safe)]
        statistics = statistics_of(*parts)
        penalties = statistics.scaled(1.5, 0.2, "relative")
        changes.append(solve(factorise(statistics, *penalties), statistics, w_s, 4).dense())
    for change in changes[1:]:
        assert float((change - changes[0]).norm() / changes[0].norm()) < 1e-10


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (15, 15), (1, 9), (9, 1)])
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-9])
def test_leading_svd(shape, smallest):
    generator = torch.Generator().manual_seed(0)
    k = min(shape)
    u, v = (torch.linalg.qr(torch.randn(size, k, generator=generator, dtype=torch.float64))[0] for size in shape)
    s = torch.logspace(0, float(np.log10(smallest)), k, dtype=torch.float64) * 5 + torch.arange(k, 0, -1) * 1e-12
    matrix = (u * s) @ v.T
    for rank in {1, min(3, k), k}:
        left, sizes, right, kept = leading_svd(matrix, rank)
        assert torch.allclose(sizes, torch.linalg.svdvals(matrix)[:rank], rtol=1e-7, atol=0)
        assert kept == pytest.approx(float(s[:rank].square().sum() / s.square().sum()))
        for basis in (left.T @ left, right @ right.T):
            assert torch.allclose(basis, torch.eye(rank, dtype=torch.float64), atol=1e-9)
        if rank == k:
            assert float(((left * sizes) @ right - matrix).norm() / matrix.norm()) < 1e-12


@pytest.mark.parametrize(("matrix", "rank"), [(torch.zeros(4, 3, dtype=torch.float64), 2), (torch.eye(4).double(), 0)])
def test_nothing_to_keep(matrix, rank):
    left, sizes, right, kept = leading_svd(matrix, rank)
    assert (tuple(left.shape), tuple(sizes.shape), tuple(right.shape)) == ((4, 0), (0,), (0, matrix.shape[1]))
    assert kept == 1.0
