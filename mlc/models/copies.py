"""A model as it is now, beside the one that goes on to be trained."""

import copy
from types import FunctionType, MethodType
from typing import Any


def frozen_copy(model: Any) -> Any:
    """A copy that is only read: in evaluation mode, without gradients, with weights of its own.

    Args:
        model: A model, also one that a trainer has already taken.
    """
    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    for module in frozen.modules():
        # Trainers of TRL, and accelerate, put a function in place of ``forward`` that holds the one of the original:
        # copied, it would compute with weights that are being trained.
        if isinstance(vars(module).get("forward"), FunctionType | MethodType):
            del module.forward
    return frozen
