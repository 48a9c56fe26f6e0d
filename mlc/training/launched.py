"""One of several processes of a training: ``accelerate launch … -m mlc.training.launched FOLDER``.

See :mod:`mlc.training.launch`, which starts it and reads what it writes.
"""

import json
import logging
import os
import pickle
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlc.chat.tethered import TETHERED, tie
from mlc.stopping import Stopped
from mlc.training.job import Job, Told, train
from mlc.training.launch import ENDED_FILES, JOB_FILE, STOP_FILE, TOLD_FILE


class _Teller(logging.Handler):
    """Writes a line for all that happens, log lines included.

    Args:
        file: For one process to write and another one to read.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(logging.WARNING)
        self._handle = file.open("a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        self.tell("log", record.name, record.levelno, record.getMessage())

    def tell(self, kind: str, *values: Any) -> None:
        self._handle.write(json.dumps([kind, *values]) + "\n")
        self._handle.flush()


def _told(folder: Path, number: int) -> Told:
    if number:
        # All of them would tell the same.
        return Told(lambda step, figures: None, lambda left_out: None, lambda: None)
    teller = _Teller(folder / TOLD_FILE)
    logging.getLogger().addHandler(teller)
    logging.captureWarnings(True)
    return Told(
        step=lambda step, figures: teller.tell("step", step, figures),
        left_out=lambda counts: teller.tell("left out", [asdict(count) for count in counts]),
        system_moved=lambda: teller.tell("system moved"),
    )


def _work(folder: Path, number: int) -> None:
    from accelerate import PartialState

    job: Job = pickle.loads((folder / JOB_FILE).read_bytes())
    kind = job.device.partition(":")[0]
    if kind == "cpu":
        # Else each is given a device by its number, which torch loads no checkpoint to.
        os.environ["ACCELERATE_TORCH_DEVICE"] = kind
    state = PartialState(cpu=kind == "cpu")
    device = kind if kind == "cpu" else f"{kind}:{state.local_process_index}"
    train(replace(job, device=device), _told(folder, number), (folder / STOP_FILE).exists)


def _portable(error: Exception) -> Exception:
    """An error that another process can read, with the place where it came up."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # anything may be in an error
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def main(folder: Path) -> None:
    """Does the job of a folder together with the others, and leaves there how it ended."""
    # The launcher may have gone before this line.
    tie(int(os.environ[TETHERED]))
    number = int(os.environ["RANK"])
    ended: Exception | None = None
    try:
        _work(folder, number)
    except Exception as error:  # it is raised again where the processes were started
        ended = _portable(error)
    (folder / ENDED_FILES.format(number)).write_bytes(pickle.dumps(ended))
    # One that fails takes the others with it, and all of them stop by themselves.
    sys.exit(0 if ended is None or isinstance(ended, Stopped) else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
