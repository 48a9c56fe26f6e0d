"""What is left of a run when nothing has changed: the orchestration, and the look at every artifact."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flows.configuration.reading import load_config
from flows.terminal.server import free_port, started_server
from tests.benchmarks.measuring import Figure, Turns, alternate, progress, ratio, rounded
from tests.flows.runs import flow_on, plan_run

FULL = ("quickstart", 3)
QUICK = ("smoke", 1)


def run(*, quick: bool) -> Iterator[Figure]:
    """The first run is made once; what Python and Prefect need to start is in none of the times."""
    name, rounds = QUICK if quick else FULL
    with (
        tempfile.TemporaryDirectory() as folder,
        started_server(Path(folder) / "server", free_port()) as server,
        flow_on(server.api) as warm,
        flow_on(server.api, name) as flow,
    ):
        # Loads the libraries.
        warm(Path(folder) / "warm", "es")
        workspace = Path(folder) / "workspace"
        config = load_config(name, workspace=str(workspace))
        progress(f"  the first run of {name}")
        (first,) = alternate([lambda: flow(workspace, None)], rounds=1)

        def again() -> None:
            summary = flow(workspace, None)
            if any(task["state"] != "cached" for task in summary["tasks"]):
                raise RuntimeError("a run in which nothing changed did something.")

        def plan() -> None:
            plan_run(config)

        rerun, planned = alternate([again, plan], rounds=rounds)
        command = Turns()
        for _ in range(rounds):
            _command(name, workspace, command)
    once = Turns(first.wall * rounds, first.cpu * rounds)
    for figure, turns in (("rerun", rerun), ("plan", planned), ("command", command)):
        seconds = {
            "seconds": rounded(min(turns.wall)),
            "processor_seconds": rounded(min(turns.cpu)),
            "seconds_of_the_first_run": rounded(first.wall[0]),
        }
        means = f"{figure} in which nothing changed / first run, of {name}"
        yield ratio("rerun", f"{figure} / first run", means, turns, once, **seconds)


def _command(name: str, workspace: Path, turns: Turns) -> None:
    """Times the whole ``mlc run``, start of Python included, with all processes that it starts."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    wall, before = time.perf_counter(), _processor_seconds()
    words = ("run", name, "--workspace", str(workspace))
    subprocess.run([sys.executable, "-m", "flows.cli", *words], check=True, capture_output=True, env=environment)
    turns.wall.append(time.perf_counter() - wall)
    turns.cpu.append(_processor_seconds() - before)


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
