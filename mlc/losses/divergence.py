"""The Kullback-Leibler divergence, entry by entry."""

import math

from torch import Tensor


def divergence_of_entries(first: Tensor, second: Tensor) -> Tensor:
    r"""Each entry's share of :math:`KL(p \,\|\, q)`, with finite gradients where entries are impossible.

    Args:
        first: [..., V] log-probabilities :math:`\log p`; −∞ where an entry is impossible.
        second: [..., V] :math:`\log q`.

    Returns:
        [..., V] in nats, :math:`p (\log p - \log q)`; 0 where :math:`p = 0`, whatever q is.
    """
    if not bool((first == -math.inf).any() or (second == -math.inf).any()):
        return first.exp() * (first - second)
    # Put in before anything is computed: a gradient of 0 times infinity would come back.
    outside = first.exp() == 0
    first, second = first.masked_fill(outside, 0.0), second.masked_fill(outside, 0.0)
    return first.exp() * (first - second)
