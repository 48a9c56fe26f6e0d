"""Sparse weight editing: the training-free method, arXiv 2602.22554.

What needs torch is loaded when it is asked for, because it takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlc.editing.settings import EditSettings, SearchSettings, UnitSettings

if TYPE_CHECKING:
    from mlc.editing.apply import AppliedEdit, apply_deltas, edited, merge_deltas, unmerge
    from mlc.editing.compute import compute_edit
    from mlc.editing.delta import EditDelta, Overlap, overlaps
    from mlc.editing.search import Search, search_edits

_LAZY = {
    **dict.fromkeys(("AppliedEdit", "apply_deltas", "edited", "merge_deltas", "unmerge"), "mlc.editing.apply"),
    "compute_edit": "mlc.editing.compute",
    **dict.fromkeys(("EditDelta", "Overlap", "overlaps"), "mlc.editing.delta"),
    **dict.fromkeys(("Search", "search_edits"), "mlc.editing.search"),
}

__all__ = [
    "AppliedEdit",
    "EditDelta",
    "EditSettings",
    "Overlap",
    "Search",
    "SearchSettings",
    "UnitSettings",
    "apply_deltas",
    "compute_edit",
    "edited",
    "merge_deltas",
    "overlaps",
    "search_edits",
    "unmerge",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
