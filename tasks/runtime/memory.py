"""How much memory a piece of work took at most, for the record of its stage."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FACT = "peak_memory_bytes"
"""In a manifest: of the process while the artifact was made, or of the GPU where the work was done on one."""
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK = "5"
"""What Linux takes for "begin anew with the peak"."""


@contextmanager
def remembering_memory(facts: dict[str, Any], device: str) -> Iterator[None]:
    """Writes the peak of the block into facts.

    Args:
        facts: Of a manifest.
        device: Where the work is done, as people name it. On a CPU the figure is that of the whole process, with the
            libraries in it; where the system cannot begin anew, since the process began.
    """
    if (cuda := _cuda(device)) is not None:
        cuda.reset_peak_memory_stats()
    with suppress(OSError):
        _RESET.write_text(_PEAK)
    yield
    cuda = _cuda(device)
    facts[FACT] = _peak_of_process() if cuda is None else int(cuda.max_memory_allocated())


def _cuda(device: str) -> Any:
    """The module of torch that counts on a GPU; None where there is none, none is meant, or nothing is on it yet."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if device != "cpu" and torch is not None and torch.cuda.is_initialized() else None


def _peak_of_process() -> int:
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
