"""Runs a command that ends when the process that started it is gone, however that ended.

``python -m flows.terminal.tethered PID COMMAND …``, started by the process PID. On Linux only;
elsewhere it runs untethered.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(*words: str) -> list[str]:
    """The command line that runs ``words`` tethered to this process; to be started from its main thread."""
    return [sys.executable, "-m", "flows.terminal.tethered", str(os.getpid()), *words]


def main() -> None:
    """Ties this process to the one that started it, and becomes the command."""
    parent, *words = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have gone before the line above.
        if os.getppid() != int(parent):
            sys.exit(1)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
