"""The door to the pipeline, wherever it lies: importing this lets Python find `flows` and `tasks`.

It is the command ``mlc``, and the way in for programs that know the wheel only: ``from mlc.pipeline import align`` is
the flow, ``mlc.pipeline.align`` its entrypoint for Prefect, and so are the others of :data:`FLOWS`;
``dask worker --preload mlc.pipeline`` is a worker that can take stages. The library itself never comes here.
"""

import importlib
import sys
from typing import Any

import mlc
from mlc.packages import DISTRIBUTION, PIPELINE

# Before all others, as other distributions install packages of these names.
if sys.path[0] != str(PIPELINE):
    sys.path.insert(0, str(PIPELINE))


FLOWS = {
    "align": "flows.align_flow",
    "add_language": "flows.scheduled.add_language",
    "evaluate_champion": "flows.scheduled.evaluate_champion",
    "promote": "flows.scheduled.decisions",
    "rollback": "flows.scheduled.decisions",
}
"""The flows that can be started from Prefect, and the modules that they are in."""


def __getattr__(name: str) -> Any:
    """A flow, which brings Prefect with it."""
    if name not in FLOWS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(FLOWS[name]), name)


def main() -> None:
    """The command ``mlc``."""
    if "mlc.losses" not in (mlc.__doc__ or ""):
        sys.exit(
            "mlc: another distribution has put a package `mlc` of its own over this one: "
            f"install {DISTRIBUTION} in an environment of its own."
        )
    importlib.import_module("flows.cli").main()
