"""Runs a server that ends when the process that started it is gone, however that ended.

``python -m mlc.chat.tethered PID COMMAND …``, started by the process PID. On Linux only; elsewhere it runs untethered.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

HOST = "127.0.0.1"
STOP_SECONDS = 15.0
TETHERED = "MLC_TETHERED"
"""Variable of a tethered process and of those that it starts: its id."""
_PR_SET_PDEATHSIG = 1


def command(*words: str) -> list[str]:
    """The command line that runs ``words`` tethered to the thread that starts it; where that ends, they do."""
    return [sys.executable, "-m", "mlc.chat.tethered", str(os.getpid()), *words]


def start(*words: str, output: IO[bytes], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Starts ``words`` tethered, in a group of their own: a signal from the terminal is for who starts them.

    Args:
        *words: The command.
        output: Where all that they say goes; it may be closed afterwards.
        environment: Their variables; None = those of this process.
    """
    return subprocess.Popen(
        command(*words),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def free_port() -> int:
    """A port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server that leads a group of its own, and whatever of the group is left after it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tie(parent: int) -> None:
    """Ends this process as soon as its parent ends, and at once if that has ended already.

    Args:
        parent: Id of the process that started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have gone before the line above.
        if os.getppid() != parent:
            sys.exit(1)


def main() -> None:
    """Ties this process to the one that started it, and becomes the command."""
    parent, *words = sys.argv[1:]
    tie(int(parent))
    # It stays what it is when it becomes the command.
    os.environ[TETHERED] = str(os.getpid())
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
