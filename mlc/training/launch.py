"""A training in several processes: ``accelerate launch`` is started, listened to, and ended with who started it.

The processes run :mod:`mlc.training.launched`. What goes between them and the stage lies in one folder: the job, what
the first process tells, line by line, a file that asks to stop, and how each process ended.
"""

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlc.chat.tethered import start, stop
from mlc.errors import UserError
from mlc.left_out import LeftOut
from mlc.stopping import ShouldStop, Stopped
from mlc.training.job import Job, Told
from mlc.training.settings import LaunchSettings

JOB_FILE, TOLD_FILE, STOP_FILE, OUTPUT_FILE = "job.pickle", "told.jsonl", "stop", "output.txt"
ENDED_FILES = "ended-{}.pickle"
"""How the process of this number ended: with an exception, or None."""
CONFIG_FILE = "accelerate.json"
PROGRAM = "mlc.training.launched"
LOOK_SECONDS = 0.2
_KILLED = re.compile(r"Signal \d+ \((SIG\w+)\) received")
_ROOT = str(Path(__file__).resolve().parents[2])


def launch(job: Job, folder: Path, told: Told, should_stop: ShouldStop) -> None:
    """Does a job in the processes that its settings ask for.

    Args:
        job: What is trained, with ``settings.launch``.
        folder: Empty folder for what goes between the processes.
        told: Where it tells what happens, in this process.
        should_stop: Looked at all the time; the processes stop together after a step, with a checkpoint.

    Raises:
        Exception: As :func:`mlc.training.job.train` raised it in a process.
        UserError: A process was killed, or accelerate does not know the configuration.
        RuntimeError: The processes ended without saying why.
        Stopped: It was asked to stop.
    """
    settings = job.settings.launch
    assert settings is not None
    (folder / JOB_FILE).write_bytes(pickle.dumps(job))
    write_config(folder / CONFIG_FILE, settings, "bf16" if job.settings.autocast == "bfloat16" else "no")
    said = _Said(folder / TOLD_FILE, told)
    with _started(folder) as process:
        while _works(process):
            if should_stop():
                (folder / STOP_FILE).touch()
            said.pass_on()
    said.pass_on()
    _raise_what_ended_it(folder, settings.count, process.returncode)


def write_config(path: Path, settings: LaunchSettings, mixed_precision: str) -> None:
    """Writes all that ``accelerate launch`` reads, so that it asks for no file of the person's own.

    Args:
        path: File to write.
        settings: How it is launched.
        mixed_precision: ``no`` or ``bf16``.

    Raises:
        UserError: Accelerate does not know what the person's file says.
    """
    from accelerate.commands.config.config_args import ClusterConfig

    given = settings.config or {}
    # Plain copies of the model are started alike on GPUs and CPUs; the processes know where they compute.
    sharing = "MULTI_GPU" if settings.engine == "DDP" else settings.engine
    config = {"compute_environment": "LOCAL_MACHINE", "use_cpu": False, "debug": False, "machine_rank": 0, **given}
    config |= {"distributed_type": sharing, "mixed_precision": mixed_precision, "main_process_port": 0}
    config |= {"num_processes": settings.count, "num_machines": 1}
    if settings.engine == "FSDP":
        # Else all but the first process would have weights that no check passes.
        config["fsdp_config"] = {**given["fsdp_config"], "fsdp_cpu_ram_efficient_loading": False}
    path.write_text(json.dumps(config), encoding="utf-8")
    try:
        ClusterConfig.from_json_file(json_file=str(path))
    except (ValueError, TypeError) as problem:
        raise UserError(f"The configuration in align.launch.config is not one of accelerate: {problem}") from None


@contextmanager
def _started(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``accelerate launch``, which ends with the block and with this process; the thread must stay until then."""
    words = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / CONFIG_FILE))
    paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if sys.platform == "linux":
        # All processes are on this machine, which may have no other network.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with (folder / OUTPUT_FILE).open("wb") as output:
        # A signal from the terminal is for the stage, which asks to stop.
        process = start(*words, "-m", PROGRAM, str(folder), output=output, environment=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            # What it started ends with it, see `tie`.
            stop(process)


def _works(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it has not ended a moment later."""
    try:
        process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


class _Said:
    """What the first process tells, as far as it was passed on.

    Args:
        file: Where it writes a line for each.
        told: Where it goes.
    """

    def __init__(self, file: Path, told: Told) -> None:
        self._file, self._told, self._read = file, told, 0

    def pass_on(self) -> None:
        """Passes on what is new."""
        if not self._file.exists():
            return
        with self._file.open("rb") as handle:
            handle.seek(self._read)
            # The last line may be in the writing.
            new = handle.read().rpartition(b"\n")[0]
        self._read += len(new) + 1 if new else 0
        for line in new.splitlines():
            kind, *values = json.loads(line)
            self._pass(kind, values)

    def _pass(self, kind: str, values: list[Any]) -> None:
        if kind == "step":
            self._told.step(*values)
        elif kind == "left out":
            self._told.left_out([LeftOut(**count) for count in values[0]])
        elif kind == "system moved":
            self._told.system_moved()
        else:
            name, level, words = values
            logging.getLogger(name).log(level, "%s", words)


def _raise_what_ended_it(folder: Path, count: int, code: int) -> None:
    files = [folder / ENDED_FILES.format(number) for number in range(count)]
    there = sorted((file for file in files if file.exists()), key=lambda file: file.stat().st_mtime_ns)
    ended = [pickle.loads(file.read_bytes()) for file in there]
    errors = [error for error in ended if error is not None]
    for error in errors:
        if isinstance(error, UserError | ValueError | Stopped):
            raise error
    if not code and len(ended) == count and not errors:
        return
    output = (folder / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace")
    # The others fail because it is gone, or are told to end.
    signals = [name for name in _KILLED.findall(output) if name != signal.SIGTERM.name]
    if signals:
        raise UserError(
            f"A process of the training was ended by {signals[0]}, which the system does where memory is short: run "
            "again, and training goes on from its last checkpoint."
        )
    for error in errors:
        raise error
    raise RuntimeError(f"accelerate launch ended with exit code {code}:\n{output[-5000:]}")
