"""A Prefect worker for the tests, and what a person or a program asks of a server that has deployments."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from tests.faults.test_pipeline import children
from tests.flows.smoked import PROJECT

SECONDS = 240
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def until(found: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What a function gives as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)
    return value


def insisting(method: str, url: str, **body: Any) -> httpx.Response:
    """The answer to a request, asked again while the server's database is locked, as Prefect's own client does."""

    def answer() -> httpx.Response | None:
        reply = httpx.request(method, url, timeout=30, **body)
        return None if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE else reply

    reply: httpx.Response = until(lambda: [found] if (found := answer()) is not None else None, 60)[0]
    return reply.raise_for_status()


class Asked:
    """What is asked of a Prefect server, by its API alone."""

    def __init__(self, api: str) -> None:
        self.api = api

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a request."""
        return insisting("POST", f"{self.api}/{path}", json=body).json()

    def get(self, path: str) -> Any:
        """What stands at an address."""
        return insisting("GET", f"{self.api}/{path}").json()

    def start(self, deployment: str, **parameters: Any) -> str:
        """Starts a deployment, named as Prefect does, and gives the id of the flow run."""
        found = self.get(f"deployments/name/{deployment}")
        made = self.post(
            f"deployments/{found['id']}/create_flow_run", parameters=parameters, state={"type": "SCHEDULED"}
        )
        return str(made["id"])

    def state(self, run: str) -> dict[str, Any]:
        """The state of a flow run."""
        state: dict[str, Any] = self.get(f"flow_runs/{run}")["state"]
        return state

    def ended(self, run: str, seconds: float = SECONDS) -> dict[str, Any]:
        """The state of a flow run once it is over."""
        return until(lambda: state if (state := self.state(run))["type"] in OVER else None, seconds)

    def paused(self, run: str) -> None:
        """Waits until a flow run waits for a person."""
        until(lambda: self.state(run)["type"] == "PAUSED")

    def resume(self, run: str, **answers: Any) -> None:
        """Resumes a flow run, with the answers to its form or without any."""
        self.post(f"flow_runs/{run}/resume", **({"run_input": answers} if answers else {}))


@contextmanager
def working(pool: str, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process worker; in the end it is killed, with all processes below it, and leaves nothing in ``/tmp``."""
    places = {"PWD": str(PROJECT), "PYTHONPATH": str(PROJECT), "TMPDIR": environment["PREFECT_HOME"]}
    with subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"],
        cwd=PROJECT,
        env={**environment, **places, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            yield worker
        finally:
            below = [] if worker.poll() is not None else children(worker.pid)
            for process in (worker.pid, *below):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
