"""How far two judges agree beyond chance."""

from collections import Counter
from collections.abc import Mapping


def cohens_kappa(counts: Mapping[tuple[str, str], int]) -> float | None:
    """Cohen's κ of two judges (Cohen 1960, A coefficient of agreement for nominal scales).

        κ = (p_o − p_e) / (1 − p_e)

    with the share p_o of answers on which they agree and the share p_e on which they would by chance, each with its own
    frequencies of outcomes.

    Args:
        counts: Answers by (outcome of one judge, outcome of the other).

    Returns:
        From −1 to 1; None where it is not defined: without answers, or if both always say the same one thing.
    """
    total = sum(counts.values())
    left, right = Counter[str](), Counter[str]()
    for (one, other), count in counts.items():
        left[one] += count
        right[other] += count
    by_chance = sum(left[outcome] * right[outcome] for outcome in left)
    if by_chance == total**2:
        return None
    agreed = sum(count for (one, other), count in counts.items() if one == other)
    return (agreed * total - by_chance) / (total**2 - by_chance)
