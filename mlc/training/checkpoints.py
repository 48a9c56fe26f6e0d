"""Checkpoints of a training in progress: written now and then, trusted only when whole, gone when it is done."""

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mlc.store.drafts import draft_file
from mlc.store.hashing import digest_file, folder_files, fsync_path
from mlc.training.together import agreed, is_first, of_first, wait_for_all

MARKER = "whole.json"
"""Written last: digests of the checkpoint's files, and the training log up to it."""
_PREFIX = "checkpoint-"

logger = logging.getLogger(__name__)

Log = list[dict[str, float]]


class Checkpoints(TrainerCallback):  # type: ignore[misc]
    """Makes a Trainer write a checkpoint from time to time, and keeps the newest whole one.

    Args:
        folder: The Trainer's ``output_dir``; made if it is not there.
        log: The training log, which grows while the Trainer works and is written with each checkpoint.
        seconds: Time between two checkpoints; 0 writes one after every step.
    """

    def __init__(self, folder: Path, log: Log, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = log
        self.seconds = seconds
        self._last = time.monotonic()

    def resume_from(self) -> str | None:
        """Takes up the newest whole checkpoint: its log is put into ``log``.

        Returns:
            Its folder, for ``Trainer.train``; None if there is none. Damaged and unfinished ones are removed.
        """
        found: tuple[str | None, Log] = of_first(self._newest() if is_first() else None)
        self.log[:] = found[1]
        return found[0]

    def _newest(self) -> tuple[str | None, Log]:
        for path in sorted(self.folder.glob(f"{_PREFIX}*"), key=_step, reverse=True):
            log = _whole(path)
            if log is not None:
                logger.warning("Training goes on from step %d, where an earlier attempt ended.", _step(path))
                return str(path), log
            shutil.rmtree(path)
        return None, []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asks for a checkpoint when it is time; not after the last step, when there is nothing left to lose."""
        if state.global_step < state.max_steps:
            due = time.monotonic() - self._last >= self.seconds
            control.should_save = agreed(due, args.device) or control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Marks a checkpoint as whole once it is on the disk, and only then removes the one before."""
        path = self.folder / f"{_PREFIX}{state.global_step}"
        # Each process writes files of its own into it.
        wait_for_all()
        if is_first():
            self._mark(path)
        self._last = time.monotonic()

    def _mark(self, path: Path) -> None:
        files = folder_files(path)
        for file in files:
            fsync_path(file)
        digests = {file.relative_to(path).as_posix(): digest_file(file) for file in files}
        with draft_file(path / MARKER) as draft:
            draft.write_text(json.dumps({"files": digests, "log": self.log}), encoding="utf-8")
        for other in self.folder.glob(f"{_PREFIX}*"):
            if other != path:
                shutil.rmtree(other)


def _step(path: Path) -> int:
    number = path.name.removeprefix(_PREFIX)
    return int(number) if number.isdigit() else -1


def _whole(path: Path) -> Log | None:
    """The log of a checkpoint, if every file of it is as it was written."""
    try:
        marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
        if all(digest_file(path / name) == digest for name, digest in marker["files"].items()):
            log: Log = marker["log"]
            return log
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
