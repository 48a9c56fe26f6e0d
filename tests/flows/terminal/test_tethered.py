"""What a run has started ends with it, even when it is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.flows.smoked import PROJECT

STARTER = """
import subprocess, sys, time
from mlc.chat.tethered import command
child = subprocess.Popen(
    command(sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(120)"),
    start_new_session=True,
)
time.sleep(float(sys.argv[1]))
child.terminate()
child.wait()
"""


def start(seconds: float) -> tuple["subprocess.Popen[str]", int]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(seconds)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as handle:
        return handle.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_it_ends_with_a_killed_parent() -> None:
    parent, child = start(120)
    assert lives(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(child)


def test_it_ends_when_it_is_told_to() -> None:
    parent, child = start(0.5)
    parent.communicate()
    assert parent.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
