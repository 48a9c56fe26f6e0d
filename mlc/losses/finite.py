"""What a loss reads must be numbers."""

import torch
from torch import Tensor


class NotFiniteError(ValueError):
    """Something that a loss reads is NaN or infinite; in training, most often because that went wrong."""


def require_finite(values: Tensor, what: str) -> None:
    """Checks that there are numbers alone.

    Args:
        values: Of any shape.
        what: What they are, for the message.

    Raises:
        NotFiniteError: One is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise NotFiniteError(f"{what} must be finite.")
