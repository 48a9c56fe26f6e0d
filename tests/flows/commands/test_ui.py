"""`mlc ui` serves its pages until Ctrl-C."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.terminal.server import DATABASE_FILE, SERVER_FOLDER
from mlc.chat.tethered import HOST, free_port
from tests.flows.made import made_run
from tests.flows.smoked import PROJECT, RUN_SECONDS
from tests.privileges import obey_permissions


def fetched(url: str, process: "subprocess.Popen[str]") -> int:
    """Status of a page, once its server answers."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return httpx.get(url, timeout=30, follow_redirects=True).status_code
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {url}")


def ui(workspace: Path, environment: dict[str, str], *arguments: str, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui", "--workspace", str(workspace), *arguments],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.slow
def test_all_pages_are_served_and_stop(environment: dict[str, str], database: Path, copy: Path) -> None:
    # Made anew, its tables would take most of the time.
    (copy / SERVER_FOLDER).mkdir()
    with (
        contextlib.closing(sqlite3.connect(database)) as made,
        contextlib.closing(sqlite3.connect(copy / SERVER_FOLDER / DATABASE_FILE)) as own,
    ):
        made.backup(own)
    ports = free_port(), free_port(), free_port()
    names = ("--page-port", "--port", "--mlflow-port")
    process = ui(
        copy, environment, *(word for name, port in zip(names, ports, strict=True) for word in (name, str(port)))
    )
    try:
        assert [fetched(f"http://{HOST}:{port}/", process) for port in ports] == [200, 200, 200]
        page = httpx.get(f"http://{HOST}:{ports[0]}/").text
        assert "Run 2</a>" in page
        assert f'href="http://{HOST}:{ports[1]}/runs/flow-run/' in page
        assert f'href="http://{HOST}:{ports[2]}/#/models/' in page
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert [line.split()[0] for line in out.splitlines()] == ["Runs", "Prefect", "MLflow", "Ctrl-C"]
    for port in ports:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{HOST}:{port}/", timeout=5)


@pytest.mark.full
def test_only_the_own_page_is_served_where_nothing_can_be_written(tmp_path: Path) -> None:
    made_run(tmp_path, {}, lambda run: run.prompts([], None, "prompts"))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    port = free_port()
    process = ui(tmp_path, {**os.environ}, "--page-port", str(port), preexec_fn=obey_permissions)
    try:
        assert fetched(f"http://{HOST}:{port}/runs/1", process) == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o700)
    assert process.returncode == 130, err
    assert [line.split()[0] for line in out.splitlines()] == ["Runs", "Prefect", "Ctrl-C"]
    assert "need to write" in out
