"""Commands in processes that are forked from one that has loaded the libraries: loading takes ten seconds of each.

A command that needs other variables than the forking process has to start for itself: libraries read theirs when they
are loaded. ``python -m tests.forked MODULE ...`` is the process that forks: it loads modules, reads commands, and tells
how their processes end.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.addresses import note_addresses, noted
from tests.privileges import obey_permissions

LOADED = ("tests.warm",)
"""What loads all that a run loads."""
LOOK_SECONDS = 0.02
ADDRESSES = ".addresses"


class Forks:
    """Starts commands in forked processes, any number at once."""

    def __init__(self, process: "subprocess.Popen[bytes]", command: str, folder: Path) -> None:
        self.process = process
        self.command = command
        self.folder = folder
        self.codes: dict[int, int] = {}
        self._told = b""
        self._started = 0

    def start(self, *arguments: str, cwd: Path, command: str = "", obedient: bool = False) -> "Forked":
        """Starts the command with these arguments.

        Args:
            arguments: What ``sys.argv`` holds after the name.
            cwd: Folder to work in.
            command: Another function of that kind.
            obedient: Whether it obeys permissions, even if it is root's.
        """
        self._started += 1
        out, err = (self.folder / f"{self._started}.{name}" for name in ("out", "err"))
        request = {"arguments": arguments, "cwd": str(cwd), "out": str(out), "err": str(err)}
        request |= {"command": command or self.command, "obedient": obedient}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        pid = None
        while pid is None:
            pid = self.listen(None)
        # Another process may have had the number before.
        self.codes.pop(pid, None)
        return Forked(self, pid, out, err)

    def listen(self, seconds: float | None) -> int | None:
        """Takes in what the forking process tells next: an end, or the process that has begun, which is returned."""
        assert self.process.stdout is not None
        while b"\n" not in self._told:
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise RuntimeError("The process that forks has ended.")
            self._told += piece
        line, _, self._told = self._told.partition(b"\n")
        told = json.loads(line)
        if "code" not in told:
            return int(told["pid"])
        self.codes[told["pid"]] = told["code"]
        return None


class Forked:
    """A command that was started."""

    def __init__(self, forks: Forks, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self._forks = forks
        self._out, self._err = out, err

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        self._forks.listen(0)
        return self._forks.codes.get(self.pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        os.kill(self.pid, number)

    @property
    def addresses(self) -> set[str]:
        """Addresses that the command has connected to, sent to or looked up, as Python sees them."""
        return noted(self._out.with_suffix(ADDRESSES))

    def wait(self, seconds: float) -> int | None:
        """Waits for the end: the exit code, or None if it has not ended in this time."""
        deadline = time.monotonic() + seconds
        while self.pid not in self._forks.codes and (left := deadline - time.monotonic()) > 0:
            self._forks.listen(left)
        return self._forks.codes.get(self.pid)

    def communicate(self, seconds: float) -> tuple[int, str, str]:
        """Waits for the end: exit code, standard output and standard error.

        Raises:
            TimeoutError: It has not ended in this time, and is killed.
        """
        code = self.wait(seconds)
        if code is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(self._err.read_text(encoding="utf-8")[-3000:])
        return code, *(path.read_text(encoding="utf-8") for path in (self._out, self._err))


@contextlib.contextmanager
def forks(
    command: str, loaded: Sequence[str], *, environment: Mapping[str, str], project: Path, folder: Path
) -> Iterator[Forks]:
    """Gives what starts a command again and again.

    Args:
        command: The function that is called, such as ``flows.cli:main``; it reads ``sys.argv``.
        loaded: Modules to load before.
        environment: Variables of the processes.
        project: Folder of the project whose code runs.
        folder: Place for what the processes write to their standard streams.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forked", *loaded],
        cwd=project,
        env={**environment, "PYTHONPATH": str(project)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Forks(process, command, folder)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def serve(loaded: Sequence[str]) -> NoReturn:
    """Forks a process for each line of standard input, until that ends."""
    for name in loaded:
        importlib.import_module(name)
    # What is loaded is no garbage: each look for some would go through it, and have its pages copied.
    gc.freeze()
    running: set[int] = set()
    while True:
        if select.select([0], [], [], LOOK_SECONDS if running else None)[0]:
            line = sys.stdin.readline()
            if not line:
                # Libraries that are torn down tell of leaks that are none.
                os._exit(0)
            pid = os.fork()
            if not pid:
                work(**json.loads(line))
            running.add(pid)
            tell(pid=pid)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def tell(**facts: int) -> None:
    """Writes one line."""
    print(json.dumps(facts), flush=True)


def work(arguments: list[str], cwd: str, out: str, err: str, command: str, obedient: bool) -> NoReturn:
    """The command, in the forked process."""
    code: Any = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), number)
        note_addresses(Path(out).with_suffix(ADDRESSES))
        os.chdir(cwd)
        os.environ["PWD"] = cwd
        random.seed()
        # A shell that starts something in the background has it ignore this signal, and processes inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if obedient:
            obey_permissions()
        module, _, name = command.partition(":")
        sys.argv = [module, *arguments]
        code = getattr(importlib.import_module(module), name)()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Nothing of the forking process is torn down.
        os._exit(int(code or 0))


if __name__ == "__main__":
    serve(sys.argv[1:])
