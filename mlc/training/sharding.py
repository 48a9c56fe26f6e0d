"""A model in shards (FSDP2), as ``accelerate launch`` asks for it."""

import os
from typing import Any

from torch import nn


def shard_on_cpus(trainer: Any) -> None:
    """Turns FSDP on where it is asked for and the processes compute on CPUs: torch can, accelerate leaves it off there.

    Args:
        trainer: A Trainer of transformers, right after it has made its accelerator.
    """
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    if state.distributed_type != DistributedType.MULTI_CPU or os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return
    state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if trainer.accelerator.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(trainer.accelerator.mixed_precision)
    state.distributed_type = DistributedType.FSDP
    trainer.is_fsdp_enabled = True


def prepare_frozen(trainer: Any, model: nn.Module) -> Any:
    """A model that is only read, ready for the processes of a trainer, in shards where the trained one is.

    Args:
        trainer: A Trainer of transformers.
        model: A teacher.
    """
    frozen = model.requires_grad_(False).eval()
    if not trainer.is_fsdp_enabled:
        return trainer.accelerator.prepare_model(frozen, evaluation_mode=True)
    from trl.models.utils import prepare_fsdp

    return prepare_fsdp(frozen, trainer.accelerator)
