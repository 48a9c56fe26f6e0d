"""Stage ``merge``: the deltas of all languages in one checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from prefect.runtime import task_run

from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DELTA_FOLDER, OVERLAPS_FILE, SEARCH_FILE
from tasks.runtime.policies import loaded_policy, model_source
from tasks.runtime.run import current_run
from tasks.runtime.settings import EditStageSettings, PolicySettings
from tasks.runtime.stage import Stage, produce, shows, stage_task

if TYPE_CHECKING:
    from mlc.editing.delta import Overlap

STAGE = Stage("merge", version=1, module=__name__, libraries=("torch", "transformers"))
HIGH_COSINE = 0.5
"""Deltas that are more alike than this push the same way, so that their sum overshoots."""


def _run_name() -> str:
    return f"merge · {_subject(task_run.parameters['seed'])}"


def _subject(seed: int | None) -> str:
    return "policy" if seed is None else f"seed {seed}"


@stage_task("merge", _run_name)
def merge_edits(
    model: PolicySettings | ArtifactRef,
    seed: int | None,
    deltas: Mapping[str, ArtifactRef],
    settings: EditStageSettings,
    device: str = "auto",
) -> ArtifactRef:
    """Adds the deltas up and merges them into the model.

    Args:
        model: The model that they were computed for.
        seed: Its training seed; None for the policy.
        deltas: By language.
        settings: For the type of the saved weights.
        device: Where to compute.

    Returns:
        The folder ``checkpoint``, which also holds the deltas and what they replaced; ``overlaps.json``: how far
        each two deltas meet; ``search.json``: every trial by language.
    """
    source = model_source(model)
    inputs = {f"delta {language}": ref for language, ref in sorted(deltas.items())}
    parts = STAGE.parts({"saved_dtype": settings.saved_dtype}, inputs, {"model": source.identity}, seed)

    def write(draft: Draft) -> None:
        import torch

        from mlc.editing.apply import merge_deltas
        from mlc.editing.delta import EditDelta, overlaps

        run = current_run()
        read = [EditDelta.load(run.store.folder(ref) / DELTA_FOLDER) for _, ref in sorted(deltas.items())]
        with loaded_policy(source, device) as policy:
            merge_deltas(policy, read, draft.path / CHECKPOINT_FOLDER, dtype=getattr(torch, settings.saved_dtype))
        searches = {
            language: json.loads(path.read_text(encoding="utf-8"))
            for language, ref in sorted(deltas.items())
            if (path := run.store.folder(ref) / SEARCH_FILE).is_file()
        }
        (draft.path / SEARCH_FILE).write_text(json.dumps(searches, indent=1), encoding="utf-8")
        found = overlaps(read)
        (draft.path / OVERLAPS_FILE).write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
        _warn_of_overshooting(found)

    return produce(STAGE, parts, write, subject=_subject(seed))


@shows
def _warn_of_overshooting(found: "Sequence[Overlap]") -> None:
    alike = {(one.first, one.second) for one in found if one.cosine > HIGH_COSINE}
    if alike:
        pairs = ", ".join(f"{first} and {second}" for first, second in sorted(alike))
        current_run().display.note(f"Deltas that push the same way, so that their sum may overshoot: {pairs}.")
