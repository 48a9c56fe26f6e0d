import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from mlc.errors import UserError
from mlc.store.locks import HOLDER_FILE, sharing, workspace_lock

HOLDER = """
import sys, time
from pathlib import Path
from mlc.store.locks import workspace_lock

with workspace_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(tmp_path):
    started = []

    def hold(seconds=60):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path, hold):
    process = hold()
    begun = time.monotonic()
    with pytest.raises(UserError) as error, workspace_lock(tmp_path):
        pass
    assert time.monotonic() - begun < 20
    text = str(error.value)
    assert f"(process {process.pid})" in text
    assert repr(str(tmp_path)) in text
    assert error.value.about == "busy workspace"
    assert "\n" not in text


def test_a_killed_holder_frees_the_workspace(tmp_path, hold):
    process = hold()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert (tmp_path / HOLDER_FILE).exists()
    with workspace_lock(tmp_path):
        pass
    assert not (tmp_path / HOLDER_FILE).exists()


def test_waiting_for_the_other_run(tmp_path, hold):
    hold(seconds=0.3)
    with workspace_lock(tmp_path, wait_seconds=20):
        pass


def test_waiting_ends(tmp_path, hold):
    hold()
    begun = time.monotonic()
    with pytest.raises(UserError, match="Another run"), workspace_lock(tmp_path, wait_seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - begun < 20


def test_an_error_inside_frees_the_workspace(tmp_path):
    with pytest.raises(RuntimeError), workspace_lock(tmp_path):
        raise RuntimeError
    with workspace_lock(tmp_path):
        pass


def test_one_process_cannot_hold_it_twice(tmp_path):
    with workspace_lock(tmp_path), pytest.raises(UserError, match="Another run"), workspace_lock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{}", "[", None])
def test_a_holder_that_did_not_say_who_it_is(tmp_path, hold, content):
    hold()
    if content is None:
        (tmp_path / HOLDER_FILE).unlink()
    else:
        (tmp_path / HOLDER_FILE).write_text(content)
    with pytest.raises(UserError, match="Another run is using the workspace"), workspace_lock(tmp_path):
        pass


def test_two_workspaces_do_not_meet(tmp_path, hold):
    hold()
    (tmp_path / "other").mkdir()
    with workspace_lock(tmp_path / "other"):
        pass


def nothing():
    pass


def test_whoever_is_first_tidies_and_others_share_after_it(tmp_path):
    tidying, proceed, events = threading.Event(), threading.Event(), []

    def tidy():
        tidying.set()
        assert proceed.wait(10)
        events.append("tidied")

    def first():
        with sharing(tmp_path, tidy=tidy):
            assert shared.wait(10)

    def second():
        with sharing(tmp_path, tidy=lambda: events.append("tidied again")):
            events.append("shared")
            shared.set()

    shared = threading.Event()
    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert tidying.wait(10)
    # It comes while nobody else may be there, and is not refused.
    threads.append(threading.Thread(target=second))
    threads[1].start()
    time.sleep(0.2)
    assert events == []
    proceed.set()
    for thread in threads:
        thread.join(20)
    assert events == ["tidied", "shared"]


def test_sharing_is_refused_while_somebody_is_alone(tmp_path, hold):
    process = hold()
    with pytest.raises(UserError, match=rf"process {process.pid}\)"), sharing(tmp_path, tidy=nothing):
        pass


def test_sharing_waits_for_who_is_alone(tmp_path, hold):
    process = hold(0.5)
    with sharing(tmp_path, tidy=nothing, wait_seconds=60):
        assert process.wait(10) == 0


def test_who_does_not_want_to_wait_is_refused_while_another_one_waits(tmp_path, hold):
    holder, begun = hold(), threading.Event()

    def share(seconds):
        begun.set()
        with sharing(tmp_path, tidy=nothing, wait_seconds=seconds):
            pass

    waits = threading.Thread(target=share, args=(60,))
    waits.start()
    assert begun.wait(10)
    with pytest.raises(UserError):
        share(0)
    assert waits.is_alive()
    holder.kill()
    waits.join(20)
    assert not waits.is_alive()


def test_the_note_of_another_one_that_shares_stays(tmp_path):
    with ExitStack() as first:
        first.enter_context(workspace_lock(tmp_path, shared=True))
        (tmp_path / HOLDER_FILE).write_text('{"pid": 4321}')
        first.close()
    assert "4321" in (tmp_path / HOLDER_FILE).read_text()
