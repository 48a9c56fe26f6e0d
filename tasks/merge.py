"""Stage ``merge``: the deltas of all languages in one checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DELTA_FOLDER, OVERLAPS_FILE, SEARCH_FILE
from tasks.runtime.memory import remembering_memory
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.settings import EditStageSettings
from tasks.runtime.stage import Stage, produce, shows, stage_task

if TYPE_CHECKING:
    from mlc.editing.delta import Overlap

STAGE = Stage("merge", version=1, module=__name__, libraries=("torch", "transformers"))
HIGH_COSINE = 0.5
"""Deltas that are more alike than this push the same way, so that their sum overshoots."""


@stage_task("merge", "merge · {model.label}")
def merge_edits(run: Run, model: Model, deltas: Mapping[str, ArtifactRef], settings: EditStageSettings) -> ArtifactRef:
    """Adds the deltas up and merges them into the model.

    Args:
        run: The run.
        model: The model that they were computed for.
        deltas: By language.
        settings: For the type of the saved weights.

    Returns:
        The folder ``checkpoint``, which also holds the deltas and what they replaced; ``overlaps.json``: how far
        each two deltas meet; ``search.json``: every trial by language.
    """
    inputs = {f"delta {language}": ref for language, ref in sorted(deltas.items())}
    parts = STAGE.parts(
        {"saved_dtype": settings.saved_dtype}, inputs, {"model": source_of(run, model).identity}, model.seed
    )

    def write(draft: Draft) -> None:
        with loaded_policy(run, model, dtype="float32") as policy, remembering_memory(draft.facts, model.device):
            import torch

            from mlc.editing.apply import merge_deltas
            from mlc.editing.delta import EditDelta, overlaps

            read = [EditDelta.load(run.store.folder(ref) / DELTA_FOLDER) for _, ref in sorted(deltas.items())]
            merge_deltas(policy, read, draft.path / CHECKPOINT_FOLDER, dtype=getattr(torch, settings.saved_dtype))
        searches = {
            language: json.loads(path.read_text(encoding="utf-8"))
            for language, ref in sorted(deltas.items())
            if (path := run.store.folder(ref) / SEARCH_FILE).is_file()
        }
        (draft.path / SEARCH_FILE).write_text(json.dumps(searches, indent=1), encoding="utf-8")
        found = overlaps(read)
        (draft.path / OVERLAPS_FILE).write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
        _warn_of_overshooting(run, found)

    return produce(run, STAGE, parts, write, subject=model.label)


@shows
def _warn_of_overshooting(run: Run, found: "Sequence[Overlap]") -> None:
    alike = {(one.first, one.second) for one in found if one.cosine > HIGH_COSINE}
    if alike:
        pairs = ", ".join(f"{first} and {second}" for first, second in sorted(alike))
        run.display.note(f"Deltas that push the same way, so that their sum may overshoot: {pairs}.")
