"""One training from models on disk to a checkpoint on disk, for whatever process it runs in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mlc.choices import Attention
from mlc.left_out import LeftOut
from mlc.models.loading import load_policy, save_policy
from mlc.models.prompts import moves_system
from mlc.models.sources import ModelSource
from mlc.shapes.history import TURNS, conversation
from mlc.stopping import ShouldStop
from mlc.training.align import align
from mlc.training.settings import AlignSettings
from mlc.training.together import is_first


@dataclass(frozen=True)
class Job:
    """What is trained; plain data, so that any process can do it."""

    policy: ModelSource
    """Weights to start from."""
    teacher: ModelSource | None
    """The frozen safe model of the carrier ``kl``; None = none, or the policy without its adapter."""
    rows: Sequence[dict[str, Any]]
    """As :func:`mlc.training.align.align` takes them."""
    settings: AlignSettings
    seed: int
    device: str
    """Where it computes, as :func:`mlc.devices.pick_device` gives it."""
    attention: Attention
    trains_adapter: bool
    """Whether the policy is an adapter, to be trained on."""
    merges_adapter: bool
    """Whether the adapter goes into the weights in the end."""
    folder: Path
    """Folder that is there, for the Trainer's own files and the log."""
    checkpoint: Path
    """Folder to write the trained weights to."""
    checkpoints: Path
    """Folder of this very training's checkpoints."""


@dataclass(frozen=True)
class Told:
    """Where a training tells what happens."""

    step: Callable[[int, dict[str, float]], None]
    """After each step, its number and figures."""
    left_out: Callable[[Sequence[LeftOut]], None]
    """Before the first step, what training goes without."""
    system_moved: Callable[[], None]
    """The chat template has no place for a system message, so that it stands with the first question."""


def train(job: Job, told: Told, should_stop: ShouldStop) -> None:
    """Trains, and writes the checkpoint and the log.

    Where ``torch.distributed`` has several processes, each of them does the same job; the first one writes.

    Args:
        job: What is trained.
        told: Where it tells what happens.
        should_stop: Looked at after each step.

    Raises:
        ValueError: As in :func:`mlc.training.align.align`.
        Stopped: It was asked to stop.
        UserError: A model cannot be loaded, or too much of the data cannot be used.
    """
    settings = job.settings
    # No single device may hold what is trained in shards.
    place = "cpu" if settings.sharded else job.device
    encodes = settings.english_loss.encoder_trainer is not None
    policy = load_policy(
        job.policy,
        dtype=settings.training_dtype,
        device=place,
        attention=job.attention,
        trains_adapter=job.trains_adapter,
        four_bits=bool(settings.adapter and settings.adapter.kind == "qlora"),
        encodes=encodes,
    )
    if moves_system(policy.tokenizer, [conversation(row["prompt"], row.get(TURNS)) for row in job.rows]):
        told.system_moved()
    align(
        policy,
        job.rows,
        settings,
        seed=job.seed,
        folder=job.folder,
        device=job.device,
        teacher=load_policy(job.teacher, device=place, encodes=encodes) if job.teacher else None,
        on_step=told.step,
        on_left_out=told.left_out,
        checkpoints=job.checkpoints,
        should_stop=should_stop,
    )
    if job.merges_adapter:
        policy.model = policy.model.merge_and_unload()
    save_policy(policy, job.checkpoint, dtype=getattr(torch, settings.saved_dtype), writes=is_first())
