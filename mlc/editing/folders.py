"""Edits as folders: a delta for each language, or one for all, and what a search tried."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlc.editing.compute import compute_edit
from mlc.editing.delta import EditDelta, overlaps
from mlc.editing.search import Search, search_edits
from mlc.editing.settings import EditSettings, SearchSettings
from mlc.evaluation.parallel import ParallelPrompts, deal, one_language
from mlc.evaluation.settings import EvaluationSettings
from mlc.models.loading import Policy

SEARCH_FILE = "search.json"
JOINT_FOLDER = "joint"

Bar = Callable[[str, int], Callable[[int], None]]
"""Opens a progress bar by name and number of steps, and gives what moves it."""


def parts_of(prompts: ParallelPrompts, *, joint: bool) -> dict[str, ParallelPrompts]:
    """What each delta is made from, by the name of its folder.

    Args:
        prompts: In English and at least one other language.
        joint: One delta for all languages, not one for each.
    """
    if joint:
        return {JOINT_FOLDER: prompts}
    return {code: one_language(prompts, code) for code in prompts.languages[1:]}


def compute_edits(
    policy: Policy, parts: Mapping[str, ParallelPrompts], settings: EditSettings, bar: Bar
) -> dict[str, EditDelta]:
    """Computes a delta for each part.

    Args:
        policy: The model.
        parts: From :func:`parts_of`.
        settings: The edit.
        bar: Opens progress bars.
    """
    return {
        name: compute_edit(policy, part, settings, on_texts=bar(f"edit · {name}", int(part.mask.sum())))
        for name, part in parts.items()
    }


def search_each(
    policy: Policy, parts: Mapping[str, ParallelPrompts], settings: EditSettings, search: SearchSettings, bar: Bar
) -> dict[str, Search]:
    """Searches the settings of a delta for each part, on prompts that are not edited with.

    Args:
        policy: The model.
        parts: From :func:`parts_of`.
        settings: The edit.
        search: Values to compare.
        bar: Opens progress bars.
    """
    found = {}
    for name, part in parts.items():
        given, validation = deal(part)
        moved = bar(f"search · {name}", len(search.candidates(settings)))
        found[name] = search_edits(policy, given, validation, settings, search, EvaluationSettings(), on_trial=moved)
    return found


def best_deltas(searches: Mapping[str, Search]) -> dict[str, EditDelta]:
    """The delta of the best trial, for each search that has one."""
    return {name: found.deltas[found.best] for name, found in searches.items() if found.best is not None}


def write_edits(deltas: Mapping[str, EditDelta], searches: Mapping[str, Search], folder: Path) -> None:
    """Writes deltas and what was tried, each into the folder of its name below ``folder``."""
    for name, delta in deltas.items():
        delta.save(folder / name)
    for name, found in searches.items():
        (folder / name).mkdir(exist_ok=True)
        text = json.dumps(found.rows(), indent=1, allow_nan=False)
        (folder / name / SEARCH_FILE).write_text(text + "\n", encoding="utf-8")


def read_deltas(folders: Iterable[tuple[str, Path]]) -> dict[str, EditDelta]:
    """Deltas by their languages, or by the first word of a pair where two have the same.

    Args:
        folders: What a person called each, and where it lies.

    Raises:
        UserError: One of them holds no delta.
    """
    found: dict[str, EditDelta] = {}
    for word, folder in folders:
        delta = EditDelta.load(folder)
        name = ", ".join(delta.languages)
        found[name if name not in found else word] = delta
    return found


def plain_edits(deltas: Mapping[str, EditDelta]) -> dict[str, Any]:
    """What deltas change and how far they overlap, as plain data."""
    return {
        "deltas": {
            name: {
                "languages": list(delta.languages),
                "projections": len(delta.parts),
                "units": sum(len(part.units_m) for part in delta.parts.values()),
                "layers": list(delta.facts.get("layers", ())),
            }
            for name, delta in deltas.items()
        },
        "overlaps": [asdict(one) for one in overlaps(list(deltas.values()))],
    }
