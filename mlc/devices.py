"""Where to compute."""

import sys
from importlib import metadata

from mlc.errors import UserError


def pick_device(device: str = "auto") -> str:
    """A device of torch that is there.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or any other name of torch; ``auto`` is the accelerator if there
            is one, else the CPU.

    Raises:
        UserError: It is not there.
    """
    if device == "auto" and knows_cpu_only():
        return "cpu"
    import torch

    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator.type if accelerator else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(
            f"The device {device!r} is not available here: use auto, cpu, or one that torch has on this machine."
        ) from None
    return device


def knows_cpu_only() -> bool:
    """Whether this build of torch can compute on nothing but the CPU: found out without loading it, for plans."""
    return metadata.version("torch").endswith("+cpu") and sys.platform != "darwin"
