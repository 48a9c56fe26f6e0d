"""Stage ``align``: one model, trained on English, with or without what reads the translations."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlc.catalogue import CARRIERS, JUDGES
from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.evaluation.choosing import choose
from mlc.languages import ENGLISH
from mlc.left_out import LeftOut, read_left_out, require_few
from mlc.models.sources import ModelSource, artifact_model, resolve_model
from mlc.settings import nested
from mlc.shapes.history import TURNS, VARIANT_TURNS
from mlc.shapes.spoken import LANGUAGE
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import read_saved
from mlc.training.settings import AlignSettings
from tasks.runtime.artifacts import (
    CHECKPOINT_FOLDER,
    DATASET_FOLDER,
    PROMPTS_FILE,
    SPEED_FACT,
    TOKENS_FACT,
    TRAINING_LOG_FILE,
    note_left_out,
)
from tasks.runtime.compute import computing, release
from tasks.runtime.memory import remembering_memory
from tasks.runtime.models import Model
from tasks.runtime.policies import BASE_FACT, SYSTEM_MOVED, base_fact, source_of
from tasks.runtime.progress import Speed, steps_of_training
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task
from tasks.runtime.warm_start import OWN_SETTINGS, WarmStart, find_warm_start
from tasks.runtime.warm_start import ROLE as WARM_START

STAGE = Stage("align", version=1, module=__name__, libraries=("torch", "transformers", "datasets", "trl", "peft"))
NOT_IN_KEY = {"teacher", "launch", "checkpoint_minutes", "max_dropped", "memory"}
"""Settings that enter through the models or in other words, or change no result."""


@stage_task("align", "align · {model.label}")
def align_model(
    run: Run, model: Model, examples: ArtifactRef, settings: AlignSettings, anchor: str = ENGLISH
) -> ArtifactRef:
    """Trains one model.

    Args:
        run: The run.
        model: What is made, with its seed; its weights are those to start from.
        examples: The training set; the English-only baseline needs the prompts alone, so that adding a language
            does not touch it.
        settings: The alignment.
        anchor: NLLB code of the anchor language, which a judge of answers is told.

    Returns:
        The folder ``checkpoint`` (as ``save_pretrained`` writes it; with ``align.adapter`` the adapter alone, merged
        where the start is a trained model) and ``training_log.jsonl``.
    """
    if model.seed is None:
        raise TypeError(f"{model.label} is trained without a seed")
    source, seed = source_of(run, model), model.seed
    teacher = resolve_model(settings.teacher, allow_pickle=source.allow_pickle) if settings.teacher else None
    adapter = settings.adapter
    if adapter and teacher and teacher.identity == source.identity:
        # The policy without its adapter is the same model, and in memory already.
        teacher = None
    models = {"policy": source.identity} | ({"teacher": teacher.identity} if teacher else {})
    # An adapter of an adapter would be a model that nothing else loads.
    merges = bool(adapter) and isinstance(model.weights, ArtifactRef)
    if merges and settings.sharded:
        raise UserError(
            f"align.launch holds the weights in shards, and the adapter of {model.label} must be merged into the model "
            "that it starts from: train this method in one process or by DDP, or set align.adapter to none."
        )
    facts = settings.model_dump(mode="json", exclude=nested(NOT_IN_KEY | OWN_SETTINGS | settings.unused))
    if settings.launch and settings.processes > 1:
        # A step that is shared out sums in another order.
        facts["launch"] = settings.launch.facts
    facts |= model.attending
    modules = [CARRIERS.module(settings.carrier)]
    if settings.english_loss.samples:
        (chosen,) = choose((settings.grpo.judge,))
        facts["grpo"]["judge"] = chosen.key
        facts |= {} if anchor == ENGLISH else {"anchor": anchor}
        modules.append(JUDGES.module(chosen.name))
    parts = STAGE.parts({"align": facts}, {"examples": examples}, models, seed, modules)
    warm = None
    # What was trained in full on these very examples is the better model, and costs nothing.
    if settings.warm_start and run.store.glance(STAGE.name, parts.key) is None:
        warm = find_warm_start(run.store, examples, parts)
    if warm:
        facts |= {"warm_start": True, "warm_start_share": settings.warm_start_share}
        models |= {WARM_START: warm.checkpoint.sha256}
        parts = STAGE.parts({"align": facts}, {"examples": examples}, models, seed, modules)
        settings = settings.model_copy(update={"steps": settings.warm_steps})
    if run.store.glance(STAGE.name, parts.key):
        # It may have been trained under another limit.
        require_few(read_left_out(run.store.manifest(STAGE.name, parts.key)["facts"]), settings.max_dropped)

    def write(draft: Draft) -> None:
        def tell(left_out: Sequence[LeftOut]) -> None:
            note_left_out(run, draft, left_out, model.label)

        rows = _rows(run.store.folder(examples), anchor)
        with computing(run, model.device), remembering_memory(draft.facts, model.device):
            from mlc.training.align import LOG_FILE, TOKEN_COUNTS, tokens_read
            from mlc.training.job import Job, Told, train
            from mlc.training.launch import launch

            # Training needs the memory for itself.
            release()
            scratch, between = draft.path / "trainer", draft.path / "processes"
            scratch.mkdir()
            job = Job(
                policy=_start(run, warm, source if adapter else None) or source,
                teacher=teacher,
                rows=rows,
                settings=settings,
                seed=seed,
                device=pick_device(model.device),
                attention=model.attention,
                trains_adapter=bool(adapter and warm),
                merges_adapter=merges,
                folder=scratch,
                checkpoint=draft.path / CHECKPOINT_FOLDER,
                checkpoints=run.store.partial(STAGE.name, parts.key),
            )
            speed = Speed(settings.steps)
            tells = Told(
                step=steps_of_training(run.display.bar(f"align · {model.label}", settings.steps), TOKEN_COUNTS, speed),
                left_out=tell,
                system_moved=lambda: run.display.note(SYSTEM_MOVED),
            )
            try:
                if settings.processes > 1:
                    between.mkdir(mode=0o700)
                    launch(job, between, tells, run.should_stop)
                    shutil.rmtree(between)
                else:
                    train(job, tells, run.should_stop)
            except UserError:
                raise
            except ValueError as problem:
                raise UserError(
                    f"The training set cannot be used: {problem} Change the settings under align, or the prompts."
                ) from None
            # What compares methods reads it; not every trainer counts.
            draft.facts[TOKENS_FACT] = tokens_read(scratch)
            draft.facts[SPEED_FACT] = speed.curve
            shutil.move(scratch / LOG_FILE, draft.path / TRAINING_LOG_FILE)
            shutil.rmtree(scratch)
        if adapter and (where := base_fact(model)):
            draft.facts[BASE_FACT] = where
        draft.facts |= {"started_from": list(warm.languages) if warm else None, "steps": settings.steps}

    effort = settings.steps * settings.batch_size * settings.accumulation
    work = Work(examples.rows, effort=effort)
    return produce(run, STAGE, parts, write, subject=model.label, work=work)


def _start(run: Run, warm: WarmStart | None, base: ModelSource | None) -> ModelSource | None:
    """The checkpoint of a warm start, verified; with what it is an adapter of."""
    if warm is None:
        return None
    store, ref = run.store, warm.checkpoint
    if store.find(ref.kind, ref.key) is None:
        raise UserError(
            f"The checkpoint {ref.key[:12]} that training was to start from is damaged and was set aside: run again, "
            "and another start is chosen."
        )
    return artifact_model(store.folder(ref) / CHECKPOINT_FOLDER, ref.sha256, base)


def _rows(folder: Path, anchor: str) -> list[dict[str, Any]]:
    if (folder / DATASET_FOLDER).is_dir():
        return [{**row, LANGUAGE: anchor} for row in read_saved(folder / DATASET_FOLDER)]
    rows: list[dict[str, Any]] = pq.read_table(folder / PROMPTS_FILE).to_pylist()
    return [
        {
            **row,
            "variants": [row["prompt"]],
            VARIANT_TURNS: [row.get(TURNS)],
            LANGUAGE: row.get(LANGUAGE) or anchor,
            "mask": [True],
        }
        for row in rows
    ]
