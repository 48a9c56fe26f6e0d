"""A main thread that waits hears a signal, whichever thread the system gives it to."""

import signal
import subprocess
import sys
import time

import pytest

from tests.flows.smoked import PROJECT

SOON = 20
WAITING = """
import signal, sys, threading, time
from contextlib import nullcontext
from mlc.stopping import hearing_signals

def send():
    # A thread that has the signal sent to itself: the wait of the main thread is not ended by it.
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), int(sys.argv[2]))
    time.sleep(float(sys.argv[3]))
    answered.set()

def note(number, frame):
    raise SystemExit(3)

answered = threading.Event()
signal.signal(int(sys.argv[2]), note)
with hearing_signals() if sys.argv[1] == "hears" else nullcontext():
    threading.Thread(target=send, daemon=True).start()
    answered.wait()
"""


def waited(hears: str, number: signal.Signals, seconds: float) -> tuple[int, float]:
    started = time.monotonic()
    arguments = [sys.executable, "-c", WAITING, hears, str(int(number)), str(seconds)]
    ended = subprocess.run(arguments, cwd=PROJECT, timeout=120, check=False)
    return ended.returncode, time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_another_thread_gets_ends_the_wait_of_the_main_thread(number: signal.Signals) -> None:
    code, seconds = waited("hears", number, 100)
    assert code == 3
    assert seconds < SOON


def test_without_it_the_wait_goes_on() -> None:
    # If this fails, Python does by itself what `hearing_signals` is for.
    code, seconds = waited("does not", signal.SIGTERM, 4)
    assert code == 3
    assert seconds > 4


LATER = """
import os, signal
from mlc.stopping import hearing_signals

heard = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: heard.append(number))
before = signal.getsignal(signal.SIGURG), signal.set_wakeup_fd(-1)
with hearing_signals(), hearing_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
assert heard == [signal.SIGTERM, signal.SIGINT], heard
assert (signal.getsignal(signal.SIGURG), signal.set_wakeup_fd(-1)) == before
"""


def test_each_signal_is_heard_once_and_nothing_is_left_behind() -> None:
    subprocess.run([sys.executable, "-c", LATER], cwd=PROJECT, timeout=120, check=True)
