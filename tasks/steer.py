"""Stage ``steer``: the direction of refusal, read in English, in the weights of one checkpoint."""

import json
from typing import Any

import pyarrow.parquet as pq

from mlc.permuted import dealt_anew
from mlc.shapes.history import TURNS, conversation
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DIRECTION_FILE, PROMPTS_FILE
from tasks.runtime.memory import remembering_memory
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.settings import DirectionStageSettings
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("steer", version=1, module=__name__, libraries=("torch", "transformers"))


@stage_task("steer", "steer · {model.label}")
def steer_model(
    run: Run, model: Model, prompts: ArtifactRef, settings: DirectionStageSettings, *, permuted: bool = False
) -> ArtifactRef:
    """Finds the direction of refusal and puts it into the weights; no language but that of the prompts is read.

    Args:
        run: The run.
        model: The model to change.
        prompts: Artifact with ``prompts.parquet``, with labels.
        settings: Where the direction is read, and what is done with it.
        permuted: Whether labels are dealt anew, by the seed of the model: a control.

    Returns:
        The folder ``checkpoint``, and ``direction.json``: layer, length, separation of the classes, and fit of the
        constant.
    """
    facts = {"direction": settings.model_dump(mode="json")} | ({"permuted": True} if permuted else {}) | model.attending
    parts = STAGE.parts(facts, {"prompts": prompts}, {"model": source_of(run, model).identity}, model.seed)

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE).to_pylist()
        texts = [conversation(row["prompt"], row.get(TURNS)) for row in rows]
        with loaded_policy(run, model, dtype="float32") as policy, remembering_memory(draft.facts, model.device):
            import torch

            from mlc.editing.direction import find_direction, steered
            from mlc.models.loading import save_policy

            labels = [row.get("label") for row in rows]
            labels = dealt_anew(labels, model.seed) if permuted else labels
            found = find_direction(policy, texts, labels, settings.plain(), should_stop=run.should_stop)
            with steered(policy.model, found, settings.plain()):
                save_policy(policy, draft.path / CHECKPOINT_FOLDER, dtype=getattr(torch, settings.saved_dtype))
        told: dict[str, Any] = {
            "layer": found.layer,
            "length": float(found.difference_H.norm()),
            "separation": found.separation,
            "fit": found.fit,
        }
        (draft.path / DIRECTION_FILE).write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
        run.display.note(
            f"{model.label}: the direction at layer {found.layer} tells {found.separation:.0%} of pairs of harmful and "
            "harmless prompts apart."
        )

    return produce(run, STAGE, parts, write, subject=model.label, work=Work(prompts.rows))
