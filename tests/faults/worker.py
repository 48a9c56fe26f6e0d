"""Runs the smoke pipeline in a process that will be killed, and notes what is translated."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

# Loaded once, where processes are forked from.
import mlflow.pyfunc
import torch
import transformers
import trl

from flows.align_flow import align
from flows.config import load_config
from mlc.translation.engines.seq2seq import Seq2SeqEngine

__all__ = ["mlflow", "torch", "transformers", "trl", "work"]
torch.set_num_threads(1)


def settings(workspace: Path) -> dict[str, object]:
    """The smoke configuration, with a checkpoint after every step and several batches of translation."""
    overrides = {"align.checkpoint_minutes": 0, "translator.batch_tokens": 200, "align.steps": 6}
    return load_config("smoke", workspace=str(workspace), overrides=overrides).model_dump(mode="json")


def work(workspace: Path, notes: Path, ready: Connection) -> None:
    """Runs to the end, or as far as it gets."""
    original = Seq2SeqEngine._translate_batch

    def noting(self, batch, source, targets):  # type: ignore[no-untyped-def]
        descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{len(batch) * len(targets)}\n".encode())
        os.close(descriptor)
        return original(self, batch, source, targets)

    Seq2SeqEngine._translate_batch = noting
    ready.send(None)
    align(settings(workspace))
