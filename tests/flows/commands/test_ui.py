"""`mlc ui` serves both pages until Ctrl-C."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows.terminal.server import DATABASE_FILE, HOST, SERVER_FOLDER, free_port
from tests.flows.smoked import PROJECT, RUN_SECONDS


def fetched(url: str, process: "subprocess.Popen[str]") -> int:
    """Status of a page, once its server answers."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return httpx.get(url, timeout=30, follow_redirects=True).status_code
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {url}")


@pytest.mark.slow
def test_both_pages_are_served_and_stop(environment: dict[str, str], database: Path, copy: Path) -> None:
    # Made anew, its tables would take most of the time.
    (copy / SERVER_FOLDER).mkdir()
    with (
        contextlib.closing(sqlite3.connect(database)) as made,
        contextlib.closing(sqlite3.connect(copy / SERVER_FOLDER / DATABASE_FILE)) as own,
    ):
        made.backup(own)
    ports = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flows.cli", "ui", "--workspace", str(copy)),
            *("--port", str(ports[0]), "--mlflow-port", str(ports[1])),
        ],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert [fetched(f"http://{HOST}:{port}/", process) for port in ports] == [200, 200]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert [line.split()[0] for line in out.splitlines()] == ["Prefect", "MLflow", "Ctrl-C"]
    for port in ports:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{HOST}:{port}/", timeout=5)
