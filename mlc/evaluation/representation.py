"""How alike are the states of a prompt in two languages?"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairFigures:
    """Agreement of one language's states with the English ones. N prompts."""

    collinearity: float
    """Mean of sigma_1^2 / 2 over the pairs of raw states, in [.5, 1]; it does not see signs."""
    centred_collinearity: float
    """The same after the mean English state is subtracted from both sides."""
    matched: np.ndarray
    """[N] centred cosine between a prompt's two states, in [-1, 1]."""
    unmatched: float
    """Mean centred cosine between this language's state and the English states of other prompts; if it rises with the
    matched one, the model collapses prompts instead of aligning languages. NaN for a single prompt."""


def pair_figures(english: np.ndarray, other: np.ndarray) -> PairFigures:
    """Compares the states of N prompts in English and in another language.

    Args:
        english: [N, H].
        other: [N, H], same prompts in the same order.
    """
    english, other = english.astype(np.float64), other.astype(np.float64)
    center = english.mean(axis=0)
    raw = _cosines(english, other)
    cosines = _cosines(english - center, other - center)
    matched = np.diag(cosines).copy()
    count = len(matched)
    unmatched = (cosines.sum() - matched.sum()) / (count * (count - 1)) if count > 1 else float("nan")
    return PairFigures(_collinearity(np.diag(raw)), _collinearity(matched), matched, float(unmatched))


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    def unit(rows: np.ndarray) -> np.ndarray:
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norm > 0, norm, 1.0)

    product: np.ndarray = unit(left) @ unit(right).T
    return product


def _collinearity(cosines: np.ndarray) -> float:
    # Two unit rows with cosine c have squared singular values 1 + |c| and 1 - |c|.
    return float((1 + np.abs(cosines)).mean() / 2)
