r"""A logistic classifier of low rank.

N prompts, H hidden size, r rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlc.errors import UserError

STEPS = 100
"""Newton's steps at most; a handful is enough."""
FLAT = 1e-9
"""Directions in which states differ by less than this share of the largest difference are noise of rounding."""
TOLERANCE = 1e-10
"""Newton's method ends where no entry of the gradient is larger."""


@dataclass(frozen=True)
class LinearScore:
    """A score of states; above 0 harmful is likelier, where both classes are as frequent."""

    direction_H: Tensor
    """Float64."""
    bias: float

    def of(self, states_NH: Tensor) -> Tensor:
        """[N] float64 scores: log-odds of being harmful."""
        return states_NH.double() @ self.direction_H.to(states_NH.device) + self.bias


def fit_score(states_NH: Tensor, harmful_N: Tensor, *, rank: int, ridge: float) -> LinearScore:
    r"""Fits the classifier.

    States are centred and written in the ``rank`` directions in which they differ most (principal components), each
    with variance 1: :math:`x_n \in R^r`. Then, with :math:`y_n = \pm 1` and :math:`N_y` prompts of a class,

    .. math:: \min_{w, b} \sum_n \frac{1}{2 N_{y_n}} \log(1 + e^{-y_n (w \cdot x_n + b)})
        + \frac{\lambda}{2} \lVert w \rVert^2,

    which has one minimum, found by Newton's method: nothing is drawn, and the order of the prompts does not matter. The
    published gate has rank 10 as well; how it weighs classes and weights is not known, and is our choice.

    Args:
        states_NH: N prompts.
        harmful_N: bool.
        rank: r, at least 1; states that differ in fewer directions are written in those.
        ridge: :math:`\lambda > 0`.

    Raises:
        UserError: A class has no prompt, a state is not finite, or all states are the same.
        ValueError: A shape, the rank or the ridge is wrong.
    """
    if states_NH.ndim != 2 or harmful_N.shape != states_NH.shape[:1]:
        raise ValueError(f"states must be [N, H] and labels [N], not {list(states_NH.shape)}, {list(harmful_N.shape)}.")
    if rank < 1 or not ridge > 0:
        raise ValueError(f"rank must be at least 1 and ridge above 0, not {rank} and {ridge}.")
    harmful_N = harmful_N.bool()
    counts = [int(harmful_N.sum()), int((~harmful_N).sum())]
    if not all(counts):
        raise UserError(
            f"There are {counts[0]} harmful and {counts[1]} harmless prompts, and a gate needs both: add labelled ones."
        )
    states_NH = states_NH.double()
    if not bool(states_NH.isfinite().all()):
        raise UserError("The states of the model are not finite: load it in float32, and check its weights.")
    mean_H = states_NH.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(states_NH - mean_H, full_matrices=False)
    if not float(sizes[0]) > FLAT * max(float(states_NH.norm()), 1e-300):
        raise UserError("All prompts have the same state: take another layer for the gate.")
    kept = min(rank, int((sizes > FLAT * sizes[0]).sum()))
    # Columns that write centred states with variance 1.
    writing_Hr = directions[:kept].T * (len(states_NH) ** 0.5 / sizes[:kept])
    weights_r, bias = _newton((states_NH - mean_H) @ writing_Hr, harmful_N, ridge)
    direction_H = writing_Hr @ weights_r
    return LinearScore(direction_H.cpu(), float(bias - mean_H @ direction_H))


def _newton(inputs_Nr: Tensor, harmful_N: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights and bias of the minimum."""
    ones = torch.ones_like(inputs_Nr[:, :1])
    inputs = torch.cat([inputs_Nr, ones], dim=1)
    signs = torch.where(harmful_N, 1.0, -1.0).to(inputs)
    counts = torch.where(harmful_N, harmful_N.sum(), (~harmful_N).sum())
    shares = 0.5 / counts.to(inputs)
    penalty = torch.full_like(inputs[0], ridge)
    penalty[-1] = 0.0

    def loss_at(point: Tensor) -> Tensor:
        losses = torch.nn.functional.softplus(-signs * (inputs @ point))
        return (shares * losses).sum() + 0.5 * (penalty * point.square()).sum()

    point = torch.zeros_like(penalty)
    for _ in range(STEPS):
        wrong = torch.sigmoid(-signs * (inputs @ point))
        gradient = penalty * point - inputs.T @ (shares * signs * wrong)
        if float(gradient.abs().max()) < TOLERANCE:
            break
        curvature = inputs.T @ ((shares * wrong * (1 - wrong)).unsqueeze(1) * inputs) + torch.diag(penalty)
        # Far from the minimum the bias may have next to no curvature.
        step = torch.linalg.solve(curvature + 1e-12 * torch.eye(len(point), dtype=point.dtype), gradient)
        length = 1.0
        while float(loss_at(point - length * step)) > float(loss_at(point)) and length > 1e-6:
            length /= 2
        point = point - length * step
    return point[:-1], point[-1]
