"""Processes that end when the process that started them is gone, however that ended.

``python -m mlc.tethered PID COMMAND …``, started by the process PID, runs a command so. On Linux only;
elsewhere it runs untethered.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(*words: str) -> list[str]:
    """The command line that runs ``words`` tethered to this process; the thread that starts it has to outlive it."""
    return [sys.executable, "-m", "mlc.tethered", str(os.getpid()), *words]


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
    os.execvp(words[0], words)


if __name__ == "__main__":
    main()
