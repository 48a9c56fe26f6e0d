"""Faults around the pipeline: damaged artifacts, locked databases, servers that are not there."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.terminal.quiet import quiet_environment
from flows.terminal.server import Server, free_port
from mlc.errors import UserError
from mlc.store.runs import run_records
from tests.faults.conftest import LONG
from tests.faults.test_kills import contents
from tests.flows.runs import Flow, flow_on, made
from tests.flows.smoked import PROJECT, Smoked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flow(server: Server) -> Iterator[Flow]:
    with pytest.MonkeyPatch.context() as patch, flow_on(server.api) as run:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        yield run


@pytest.fixture
def workspace(smoked: Smoked, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smoked.one, tmp_path / "workspace"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_artifacts_are_made_again_as_they_were(
    flow: Flow, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = contents(workspace)
    artifacts = workspace / "artifacts"
    cut(next(artifacts.glob("translate/*/translations.parquet")))
    flip(next(artifacts.glob("filter/*/verdicts.parquet")))
    flip(next(artifacts.glob("align/*/checkpoint/model.safetensors")))
    shutil.rmtree(next(artifacts.glob("dataset/*")))
    next(artifacts.glob("report/*/manifest.json")).unlink()
    summary = flow(workspace, "es")
    stages = sorted(name.split(" · ")[0] for name in made(summary))
    assert stages == ["align", "dataset", "filter", "report", "translate"]
    assert contents(workspace) == expected
    assert sum("is damaged" in record.message for record in caplog.records) >= 4


@pytest.mark.parametrize(
    ("stages", "place", "call"),
    [(("translate", "signals"), pq, "write_table"), (("generate",), np, "save")],
    ids=["at the start", "in a task that others wait for"],
)
def test_a_disk_that_fills_up_in_the_midst(
    flow: Flow,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    stages: tuple[str, ...],
    place: Any,
    call: str,
) -> None:
    expected = contents(workspace)
    for stage in stages:
        shutil.rmtree(workspace / "artifacts" / stage)
    shutil.rmtree(workspace / "memory")
    with monkeypatch.context() as patch:
        patch.setattr(place, call, _no_space)
        with pytest.raises(UserError, match=r"No space left on device.*make room"):
            flow(workspace, "es")
    assert run_records(workspace)[-1].end == "failed"
    assert {name.split(" · ")[0] for name in made(flow(workspace, "es"))} == set(stages)
    assert contents(workspace) == expected


def _no_space(*_: object, **__: object) -> None:
    raise OSError(28, os.strerror(28))


def test_a_catalog_that_another_process_holds(flow: Flow, workspace: Path) -> None:
    code = (
        "import duckdb, sys, time; connection = duckdb.connect(sys.argv[1]);print('held', flush=True); time.sleep(300)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(workspace / "catalog.duckdb")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert made(flow(workspace, "es")) == set()
    finally:
        holder.kill()
        holder.wait()


def test_a_registry_that_another_process_locks(flow: Flow, workspace: Path) -> None:
    holder = sqlite3.connect(workspace / "mlflow" / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(UserError, match=r"mlflow.db' is locked by another program: close it and run again"):
            flow(workspace, "es")
    finally:
        holder.rollback()
        holder.close()
    assert made(flow(workspace, "es")) == set()


def test_a_registry_whose_database_is_damaged(flow: Flow, workspace: Path) -> None:
    database = workspace / "mlflow" / "mlflow.db"
    database.write_bytes(b"no database at all" * 1000)
    with pytest.raises(UserError, match=r"mlflow.db' is damaged: put a backup in its place, or move it away"):
        flow(workspace, "es")
    database.unlink()
    assert made(flow(workspace, "es")) == {"register", "promote"}


def test_a_registry_that_cannot_be_reached(flow: Flow, workspace: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=r"MLflow server .*cannot be used .*What is finished is kept"):
        flow(workspace, "es", registry__tracking_uri=nobody)
    assert made(flow(workspace, "es")) == set()


def versions(workspace: Path) -> list[tuple[str, str]]:
    """Versions that stand in the registry of a workspace, with their runs."""
    with contextlib.closing(sqlite3.connect(workspace / "mlflow" / "mlflow.db")) as database:
        return database.execute(
            "SELECT version, run_id FROM model_versions WHERE current_stage <> 'Deleted_Internal'"
        ).fetchall()


def test_a_version_whose_artifact_was_never_written_is_taken(flow: Flow, workspace: Path) -> None:
    before = versions(workspace)
    assert len(before) == 1
    for stage in ("register", "promote"):
        shutil.rmtree(workspace / "artifacts" / stage)
    assert made(flow(workspace, "es")) == {"register", "promote"}
    assert versions(workspace) == before


def test_a_version_that_was_left_unfinished_is_finished(
    flow: Flow, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another seed is another model, so that everything about it is still to be registered.
    with monkeypatch.context() as patch:
        patch.setattr("tasks.register.finish_registration", _killed)
        with pytest.raises(SystemExit):
            flow(workspace, "es", seeds=[1])
    left = versions(workspace)
    summary = flow(workspace, "es", seeds=[1])
    assert versions(workspace) == left
    assert str(left[-1][0]) == summary["model_version"]["version"]
    with contextlib.closing(sqlite3.connect(workspace / "mlflow" / "mlflow.db")) as database:
        runs = database.execute("SELECT name, status FROM runs ORDER BY name").fetchall()
    own = ["base", "base", "consistency · seed 0", "consistency · seed 1", "english-only · seed 0"]
    names = [*own, "english-only · seed 1", "smoke · spa · run 1", "smoke · spa · run 2"]
    assert runs == [(name, "FINISHED") for name in names]


def _killed(*_: object) -> None:
    raise SystemExit


@pytest.mark.skipif(not LONG, reason="the long form: make faults")
def test_a_server_that_dies_in_the_midst(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    environment = {**os.environ, **quiet_environment(), "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "flows.cli", "run", "smoke", "-l", "es", "-w", str(workspace), "--json"]
    command += ["--port", str(free_port())]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not list(workspace.glob("artifacts/translate/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2, err[-3000:]
    told = [line for line in err.splitlines() if "mlc: " in line]
    assert len(told) == 1
    assert "stopped answering" in told[0]
    kept = {path.name for path in (workspace / "artifacts" / "translate").iterdir()}
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    record = run_records(workspace)[-1]
    assert {task["key"] for task in record.tasks if task["stage"] == "translate" and task["state"] == "cached"} == kept


def children(pid: int) -> list[int]:
    """Processes below a process, whatever their group."""
    found = []
    # What ends meanwhile has none.
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                for child in (task / "children").read_text().split():
                    found += [*children(int(child)), int(child)]
    return found
