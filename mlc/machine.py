"""What this machine has: memory with the limit of its container, GPUs, room on the disk. Torch is not needed for it."""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlc.devices import knows_cpu_only

_ASK_SECONDS = 10
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    memory: int
    """Bytes in all."""


@dataclass(frozen=True)
class Machine:
    """What a run can use."""

    memory: int
    """Bytes, the limit of the container counted."""
    disk: int
    """Bytes that are free where the workspace is."""
    gpus: tuple[Gpu, ...] = ()


def this_machine(workspace: Path) -> Machine:
    """What there is where this runs.

    Args:
        workspace: Folder of a run; it may be missing.
    """
    place = next(folder for folder in (workspace.resolve(), *workspace.resolve().parents) if folder.exists())
    return Machine(memory_limit(), shutil.disk_usage(place).free, gpus())


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: those of the machine, or of its control group if these are fewer.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """Limits of the control groups of this process and of those around them, of both versions."""
    for folder, first in _groups(root, "memory"):
        try:
            yield int((folder / ("memory.limit_in_bytes" if first else "memory.max")).read_text(encoding="ascii"))
        except (OSError, ValueError):  # it has none, or "max"
            continue


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups of this process and of those around them, and whether they are of version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = Path(path.lstrip("/"))
        yield from ((top / folder, bool(controllers)) for folder in (inner, *inner.parents))


def cores_there() -> int:
    """Cores that the system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: those it may run on, or what its control group grants if that is less.

    What others compute at the moment does not count: sums of another number of threads differ in their last bits, and
    a run that is repeated should not.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    return max(1, min([cores_there(), *map(math.ceil, _granted_cores(root))]))


def _granted_cores(root: Path) -> Iterator[float]:
    """Processor time that control groups grant in a time, by that time."""
    for folder, first in _groups(root, "cpu"):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
        try:
            quota, period = map(int, " ".join((folder / name).read_text(encoding="ascii") for name in names).split())
        except (OSError, ValueError):  # it has none, or "max"
            continue
        if quota > 0:
            yield quota / period


def computes_bfloat16(root: Path = Path("/")) -> bool:
    """Whether the processor multiplies bfloat16 itself, as Linux tells; elsewhere nobody knows, and it is false.

    Args:
        root: Where ``proc`` is.
    """
    try:
        told = (root / "proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"(?m)^(?:flags|Features)\s*:.*\b(?:avx512_bf16|amx_bf16|bf16)\b", told) is not None


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that torch would use, as their driver tells; none where this torch knows the CPU alone."""
    if knows_cpu_only() or shutil.which("nvidia-smi") is None:
        return ()
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = [
        Gpu(name.strip(), int(size) << 20) for name, _, size in (line.rpartition(",") for line in told.splitlines())
    ]
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        return tuple(found)
    numbers = [int(number) for number in visible.split(",") if number.strip().isdigit()]
    return tuple(found[number] for number in numbers if number < len(found))
