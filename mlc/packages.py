"""The distribution: its name, its release, and where the project's packages lie.

In a checkout `flows`, `tasks` and `mlc` lie side by side. In site-packages the first two names belong to others, so a
wheel installs nothing but `mlc`, and has the pipeline in `mlc/_pipeline`; see :mod:`mlc.pipeline`.
"""

from importlib.metadata import Distribution, distributions
from pathlib import Path

DISTRIBUTION = "mlc-align"
"""What pip calls it: `mlc` alone was never free, as others install a package of that name."""
VERSION = "0.1.0"
"""The release; the build reads it here."""

_LIBRARY = Path(__file__).resolve().parent
_IN_WHEEL = _LIBRARY / "_pipeline"
PIPELINE = _IN_WHEEL if _IN_WHEEL.is_dir() else _LIBRARY.parent
"""The folder of `flows` and `tasks`."""
ROOTS = {"flows": PIPELINE, "mlc": _LIBRARY.parent, "tasks": PIPELINE}
"""The folder in which each of the project's packages lies."""


def to_install(extra: str) -> str:
    """The command that installs an extra, such as ``dask``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def others_with_our_name() -> list[str]:
    """Other distributions in this environment that install a package `mlc`, as mlcflow and mlc-python do."""
    return sorted(each.name for each in distributions() if each.name != DISTRIBUTION and _installs_our_name(each))


def _installs_our_name(distribution: Distribution) -> bool:
    return any(line.startswith("mlc/") for line in (distribution.read_text("RECORD") or "").splitlines())


def place_in_project(path: Path) -> str | None:
    """Place of a file as a checkout has it, such as ``tasks/filter.py``; None for one that is not the project's."""
    for name, root in ROOTS.items():
        if path.is_relative_to(root / name) and not (name == "mlc" and path.is_relative_to(_IN_WHEEL)):
            return path.relative_to(root).as_posix()
    return None
