"""The device belongs to one stage at a time, whichever thread or process it works in."""

import multiprocessing
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mlc.devices import pick_device
from mlc.stopping import Stopped
from mlc.store import ArtifactStore
from mlc.store.locks import file_lock
from tasks.runtime.compute import WAITED_FOR, computing, loaded, release
from tasks.runtime.run import Run, RunReference, Silent, open_run, working_on, working_time

PROJECT = Path(__file__).parents[2]
HOLD_SECONDS = 0.3
WORK_SECONDS = 0.05
TIMEOUT_SECONDS = 120
# Three threads of a fresh process, as three stages come to the libraries that load their parts late.
TOGETHER = """
import sys, threading
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from mlc.evaluation.settings import EvaluationSettings
from mlc.store import ArtifactStore, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.dataset import build_dataset
from tasks.generate import generate
from tasks.runtime.artifacts import HeldOut
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import DatasetSettings, PolicySettings

run = Run(ArtifactStore(Path(sys.argv[1])))
rows = {"id": ["a", "b"], "prompt": ["One?", "Two?"], "chosen": ["1", "2"], "label": ["harmful", "harmless"]}
held_out = {**rows, "kind": ["in domain"] * 2, "split": ["test"] * 2}
refs = []
for number, table in enumerate((rows, held_out)):
    parts = KeyParts("ingest", 1, settings={"table": number})
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.table(table), draft.path / "prompts.parquet")
    refs.append(run.store.reference("ingest", parts.key))
policy = PolicySettings(model="shipped:tiny", device="cpu")
align = AlignSettings(steps=1, batch_size=1).without_consistency()
parts = KeyParts("filter", 1, settings={})
with run.store.writing("filter", parts) as draft:
    verdicts = {"id": ["a", "b"], "translation": ["Eins?", "Zwei?"], "quality": [1.0, 1.0], "keep": [True, True]}
    pq.write_table(pa.table(verdicts), draft.path / "verdicts.parquet")
kept = run.store.reference("filter", parts.key)
calls = [
    lambda: build_dataset.fn(run, refs[0], {"deu_Latn": kept}, DatasetSettings()),
    lambda: align_model.fn(run, Model("english-only", 0, policy, "cpu"), refs[0], align),
    lambda: generate.fn(
        run, Model("base", None, policy, "cpu"), "eng_Latn", HeldOut(refs[1], refs[1]),
        EvaluationSettings(answers=2, answer_tokens=2),
    ),
]
together = threading.Barrier(len(calls))

def work(call):
    together.wait()
    call()

threads = [threading.Thread(target=work, args=(call,)) for call in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*sorted(outcome.stage for outcome in run.outcomes))
"""

# What broke: datasets asks whether transformers is there while another thread is still loading it.
ASKING = """
import threading
from tasks.runtime.libraries import load_libraries

failed, together = [], threading.Barrier(3)

def train():
    import mlc.training.align

def build():
    from datasets import Dataset

    Dataset.from_list([{"a": 1}])

def read():
    from datasets import load_from_disk

def work(call):
    together.wait()
    load_libraries(["datasets"])
    try:
        call()
    except Exception as error:
        failed.append(error)

threads = [threading.Thread(target=work, args=(call,)) for call in (train, build, read)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed)
"""


def overlap(spans: list[list[float]]) -> bool:
    ordered = sorted(spans)
    return any(later[0] < earlier[1] for earlier, later in pairwise(ordered))


class Telling(Silent):
    """A display that tells by a connection what a task waits for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def waits(self, label: str, what: str) -> None:
        self._connection.send(what)


def take_a_turn(folder: Path, connection: Connection) -> None:
    """Asks for the device once it is told to, and tells when it had it, how long it worked, and how long that took."""
    run = Run(ArtifactStore(folder), Telling(connection))
    connection.recv()
    asked, begun = time.perf_counter(), working_time()
    with working_on("demo"), computing(run, "cpu"), computing(run, "cpu"):
        entered = time.time()
        time.sleep(WORK_SECONDS)
        span = [entered, time.time()]
    worked = working_time() - begun
    connection.send((span, worked, time.perf_counter() - asked))


@pytest.mark.parametrize("kind", [multiprocessing.get_context("fork").Process, threading.Thread])
def test_all_take_turns_and_waiting_is_no_work(tmp_path: Path, kind: Any) -> None:
    pick_device("cpu")  # which loads torch
    ends = [multiprocessing.Pipe() for _ in range(3)]
    # A process that is forked while this one holds the device would hold it too.
    workers = [kind(target=take_a_turn, args=(tmp_path, end)) for _, end in ends]
    for worker in workers:
        worker.start()
    with computing(Run(ArtifactStore(tmp_path)), "cpu"):
        for here, _ in ends:
            here.send("go")
        for here, _ in ends:
            assert here.poll(TIMEOUT_SECONDS)
            assert here.recv() == WAITED_FOR
        time.sleep(HOLD_SECONDS)
    told = [told_by(here) for here, _ in ends]
    for worker in workers:
        worker.join()
    assert not overlap([span for span, _, _ in told])
    assert all(worked >= WORK_SECONDS and took - worked >= HOLD_SECONDS for _, worked, took in told)


def told_by(connection: Connection) -> tuple[list[float], float, float]:
    """What a worker tells last."""
    told = None
    while not isinstance(told, tuple):
        assert connection.poll(TIMEOUT_SECONDS)
        told = connection.recv()
    return told


@pytest.mark.parametrize("here", [True, False], ids=["in the process of the flow", "elsewhere"])
def test_the_last_model_stays_where_no_other_process_needs_the_device(tmp_path: Path, here: bool) -> None:
    release()
    run = Run(ArtifactStore(tmp_path)) if here else open_run(RunReference("r", str(tmp_path)))
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return object()

    for _ in range(2):
        with loaded(run, "a model", "cpu", load), loaded(run, "a model", "cpu", load):
            pass
    assert len(loads) == (1 if here else 2)
    release()


def test_libraries_are_whole_before_threads_ask_them() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ASKING], cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.stdout == "[]\n", ended.stderr[-3000:]


def test_stages_that_start_at_once_do_not_break_each_others_imports(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TOGETHER, str(tmp_path / "workspace")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout == "align dataset generate\n", ended.stderr[-3000:]


def test_who_waits_for_the_device_or_for_another_run_stops_waiting(tmp_path: Path) -> None:
    run, stopped = Run(ArtifactStore(tmp_path)), []

    def wait(turn: Any) -> None:
        with pytest.raises(Stopped), turn:
            raise AssertionError("its turn never comes")
        stopped.append(None)

    elsewhere = run.store.root / ".locks" / f"device-{socket.gethostname()}-cpu.lock"
    with computing(run, "cpu"), run.store.making("a", "k"):
        turns = [computing(run, "cpu"), run.store.making("a", "k", should_stop=run.should_stop)]
        threads = [threading.Thread(target=wait, args=(turn,)) for turn in turns]
        for thread in threads:
            thread.start()
        run.stop()
        for thread in threads:
            thread.join(20)
    assert len(stopped) == 2
    # The same where another process holds it.
    with file_lock(elsewhere):
        wait(computing(run, "cpu"))
