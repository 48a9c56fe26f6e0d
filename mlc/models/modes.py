"""What a model is while it is only asked: without dropout, whatever the caller trains."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def asked_only(model: nn.Module) -> Iterator[None]:
    """A block in which a model is in evaluation mode; then every part of it is in the mode that it was in.

    Args:
        model: The model, or what is wrapped around it.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        # Parts may be frozen in a mode of their own.
        for module, training in before.items():
            module.training = training
