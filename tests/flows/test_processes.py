"""Stages in processes of their own: the same keys and artifacts as in threads, also after one of them was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.terminal.server import Server
from mlc.store.runs import run_records
from tests.faults.test_kills import contents
from tests.flows.runs import Flow, TaskRun, task_name
from tests.flows.smoked import PROJECT

# Three whole runs in processes; the stages that they are made of are tested in threads in any run of the tests.
pytestmark = [pytest.mark.slow, pytest.mark.full]

SECONDS = 600
COMMAND = (sys.executable, "-m", "flows.cli", "run", "smoke", "--languages", "es", "--set", "runner=processes")


@pytest.fixture(scope="module")
def threads(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("threads") / "workspace"
    flow(workspace, "es")
    return workspace


@pytest.fixture(scope="module")
def start(environment: dict[str, str]) -> Callable[[Path], "subprocess.Popen[str]"]:
    def start(workspace: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, "--workspace", str(workspace), "--json"],
            cwd=PROJECT,
            env={**environment, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def lines(workspace: Path, number: int) -> list[dict[str, Any]]:
    path = workspace / "runs" / f"{number:06d}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def worker_of(workspace: Path, stage: str, number: int = 1) -> int:
    """Process that has started a stage in a run of this number, once it has."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line in lines(workspace, number):
            if line.get("starting", {}).get("label", "").startswith(stage):
                return int(line["by"].rpartition(":")[2])
        time.sleep(0.02)
    raise AssertionError(f"{stage} never started")


@pytest.fixture(scope="module")
def killed(start: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A workspace in which a process was killed while it trained; what the run ended with, and what it said."""
    workspace = tmp_path_factory.mktemp("processes") / "workspace"
    run = start(workspace)
    os.kill(worker_of(workspace, "align"), signal.SIGKILL)
    _, told = run.communicate(timeout=SECONDS)
    return workspace, run.returncode, told


@pytest.fixture(scope="module")
def completed(start: Any, killed: tuple[Path, int, str]) -> tuple[dict[str, Any], str]:
    """The summary of the run after that, and what it said."""
    run = start(killed[0])
    out, told = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, told[-3000:]
    return json.loads(out), told


def test_a_killed_process_is_told_in_one_sentence(killed: tuple[Path, int, str]) -> None:
    workspace, code, told = killed
    assert code == 2
    assert "Traceback" not in told
    assert (
        told.rstrip()
        .splitlines()[-1]
        .endswith("was killed, for example because memory ran out: run again; what is finished is kept.")
    )
    assert run_records(workspace)[0].end == "failed"


def test_the_next_run_makes_what_was_not_finished(
    killed: tuple[Path, int, str], completed: tuple[dict[str, Any], str]
) -> None:
    before, _ = run_records(killed[0])
    finished = {task["key"] for task in before.tasks}
    assert finished
    for task in completed[0]["tasks"]:
        assert task["state"] == ("cached" if task["key"] in finished else "ran"), task_name(task)


def test_keys_and_artifacts_are_those_of_threads(
    threads: Path, killed: tuple[Path, int, str], completed: object
) -> None:
    keys = [
        {task_name(task): task["key"] for task in run_records(workspace)[-1].tasks if task["stage"] != "promote"}
        for workspace in (threads, killed[0])
    ]
    assert keys[0] == keys[1]
    assert contents(threads) == contents(killed[0])


def test_every_task_is_shown_and_counted_once(
    killed: tuple[Path, int, str], completed: tuple[dict[str, Any], str], task_runs: Callable[[str], list[TaskRun]]
) -> None:
    summary, told = completed
    names = Counter(map(task_name, summary["tasks"]))
    assert set(names.values()) == {1}
    shown = [line.split() for line in told.splitlines() if line.startswith(("✓", "="))]
    assert len(shown) == len(names)
    # The names of these tell the registered model, which no key needs.
    wanted = {
        name if name not in ("register", "promote") else f"{name} · multilingual-policy"
        for name in (task_name(task) for task in summary["tasks"] if task["state"] == "ran")
    }
    assert {run.name for run in task_runs(summary["run_id"])} == wanted
    # What the flow found itself, it wrote itself.
    writers = {line["by"] for line in lines(killed[0], 2) if "task" in line and "by" in line}
    assert len(writers) == 2


def test_prefect_has_the_edges_of_the_flow_each_once(
    threads: Path, server: Server, completed: tuple[dict[str, Any], str], task_runs: Callable[[str], list[TaskRun]]
) -> None:
    graphs, tasks = [], []
    for run_id in (run_records(threads)[-1].id, completed[0]["run_id"]):
        task_runs(run_id)
        asked = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
        rows = httpx.post(f"{server.api}/task_runs/filter", json=asked, timeout=30).json()
        name = {row["id"]: row["name"] for row in rows}
        # One may be given by two parameters: the model that is registered, and all models of which MLflow is told.
        edges = [
            (name[source["id"]], row["name"], given)
            for row in rows
            for given, sources in row["task_inputs"].items()
            for source in sources
        ]
        assert [edge for edge, times in Counter(edges).items() if times > 1] == []
        graphs.append({(source, task) for source, task, _ in edges})
        tasks.append(set(name.values()))
    # What was found, and no task of the second run, has no edges there.
    assert {(source, task) for source, task in graphs[0] if {source, task} <= tasks[1]} == graphs[1] != set()
    assert {source for source, task in graphs[0] if task == "align · english-only · seed 0"} == {"ingest · prompts"}
    assert {source for source, task in graphs[0] if task == "dataset"} == {"ingest · prompts", "filter · spa_Latn"}
    assert {source for source, task in graphs[0] if task == "generate · consistency · seed 0 · spa_Latn"} == {
        "align · consistency · seed 0", "ingest · held-out · eng_Latn", "ingest · held-out · spa_Latn"
    }  # fmt: skip
