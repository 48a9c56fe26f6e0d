"""What this machine has: memory with the limit of its container, GPUs, room on the disk. Torch is not needed for it."""

import os
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
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            try:
                yield int((top / folder / name).read_text(encoding="ascii"))
            except (OSError, ValueError):  # it has none, or "max"
                continue


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
