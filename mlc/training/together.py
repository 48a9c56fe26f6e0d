"""The processes that train one model together, as ``torch.distributed`` knows them; one alone is the first of one.

All of them have to call these functions equally often, in the same order.
"""

from typing import Any

import torch
from torch import distributed


def process_count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the one that writes files and tells of progress."""
    return process_count() == 1 or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Waits until all of them are here."""
    if process_count() > 1:
        distributed.barrier()


def agreed(asked: bool, device: torch.device | None = None) -> bool:
    """Whether one of them asks for something, so that all do it in the same step.

    Args:
        asked: Whether this one does.
        device: Where it computes.
    """
    if process_count() == 1:
        return asked
    flag = torch.tensor(float(asked), device=device)
    distributed.all_reduce(flag)
    return bool(flag > 0)


def of_first(value: Any) -> Any:
    """What the first of them has.

    Args:
        value: What this one has; is ignored but for the first.
    """
    if process_count() == 1:
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def of_all(numbers: torch.Tensor) -> torch.Tensor:
    """What each of them has, [processes, …].

    Args:
        numbers: Of this one, of the same shape in all of them.
    """
    if process_count() == 1:
        return numbers.unsqueeze(0)
    held = [torch.empty_like(numbers) for _ in range(process_count())]
    distributed.all_gather(held, numbers)
    return torch.stack(held)


def mean_of_all(numbers: torch.Tensor) -> torch.Tensor:
    """The mean over the processes.

    Args:
        numbers: Of this one, of the same shape in all of them.
    """
    if process_count() == 1:
        return numbers
    total = numbers.clone()
    distributed.all_reduce(total)
    return total / process_count()
