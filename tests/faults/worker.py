"""Runs the smoke pipeline in a process that will be killed, and notes what is translated."""

import os
import signal
import sys
from pathlib import Path

import torch

from flows.align_flow import align
from flows.configuration.reading import load_config
from flows.terminal.quiet import be_quiet
from mlc.training.checkpoints import Checkpoints
from mlc.translation.engines.seq2seq import Seq2SeqEngine


def settings(workspace: Path) -> dict[str, object]:
    """The smoke configuration, with a checkpoint after every step and several batches of translation."""
    overrides = {"align.checkpoint_minutes": 0, "translator.batch_tokens": 200, "align.steps": 6}
    return load_config("smoke", workspace=str(workspace), overrides=overrides).model_dump(mode="json")


def main() -> None:
    """Runs to the end, or as far as it gets; with a last step until a training has saved that one.

    Arguments: the workspace, a file for notes, and the last step or 0.
    """
    be_quiet()
    torch.set_num_threads(1)
    workspace, notes = map(Path, sys.argv[1:3])
    _note_translations(notes)
    _note_steps(notes.with_suffix(".steps"), int(sys.argv[3]))
    align(settings(workspace))


def _note(notes: Path, number: int) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)


def _note_translations(notes: Path) -> None:
    original = Seq2SeqEngine._translate_batch

    def noting(self, batch, source, targets):  # type: ignore[no-untyped-def]
        _note(notes, len(batch) * len(targets))
        return original(self, batch, source, targets)

    Seq2SeqEngine._translate_batch = noting


def _note_steps(notes: Path, last: int) -> None:
    original = Checkpoints.on_save

    def noting(self, args, state, control, **more):  # type: ignore[no-untyped-def]
        _note(notes, state.global_step)
        original(self, args, state, control, **more)
        if state.global_step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.on_save = noting
