"""The smoke run again and again, for hours: ``python -m tests.soak runs 200 --folder FOLDER``.

``runs`` makes it from nothing and from half of what a run left, in turn in processes of their own, each with a Prefect
server of its own, and by the flow in this process. ``kills`` kills it at a random moment, ``signals`` sends SIGINT and
SIGTERM at one; the run after that must end well. Every run must leave the keys and digests of an undisturbed one. Each
try is one line of ``MODE.jsonl`` in the folder, so that a second call goes on where the first one ended, and ``counts``
tells them.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.terminal.quiet import be_quiet, quiet_environment, set_unless_set
from flows.terminal.server import Server, free_port, started_server
from mlc.store.runs import run_records
from tests.faults.test_kills import contents
from tests.flows.runs import OVER, flow_on, flow_states, recorded_task_runs
from tests.flows.smoked import PROJECT
from tests.forked import LOADED, Forked, Forks, forks

SECONDS = 3600
"""Most for one run."""
RECORDED = 120
"""Seconds in which the Prefect server has recorded what it was told."""
SOON = 10.0
"""Seconds in which a run that is asked to stop must have ended."""
SETTINGS = {"align.checkpoint_minutes": "0", "translator.batch_tokens": "200", "align.steps": "6"}
"""A checkpoint after every step, and several batches of translation: more moments that differ."""
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}
ENDED = {"interrupted": "CRASHED", "completed": "COMPLETED"}
"""State of the flow run in Prefect, by the end in the run's record."""
TASKS_OVER = {"Completed", "Cached", "Cancelled", "Crashed"}
WAYS = ("process, fresh", "flow, fresh", "process, half", "flow, half")


class Failed(Exception):
    """A try that did not hold."""


class OverBefore(Exception):
    """The run had ended before its moment came: no try."""


@dataclass
class Soak:
    """Where the tries run.

    Attributes:
        folder: Results and workspaces.
        server: The Prefect server of all but the runs that start their own.
        forked: Starts commands that find the libraries loaded.
        draw: Chance.
        before: Flow runs that the server knew before: of a soak that was itself killed.
        length: Seconds that a run takes now, as far as is known; a busy machine makes it longer.
    """

    folder: Path
    server: Server
    forked: Forks
    draw: random.Random
    before: set[str]
    length: float = 0.0

    @property
    def undisturbed(self) -> Path:
        """Workspace of a run that nothing happened to."""
        return self.folder / "undisturbed"

    @property
    def reference(self) -> dict[str, Any]:
        """What that run left, and the seconds that it took."""
        return dict(json.loads((self.folder / "undisturbed.json").read_text()))

    def start(self, workspace: Path) -> Forked:
        return self.forked.start(*command(workspace), cwd=PROJECT)

    def require_same(self, workspace: Path) -> None:
        """Raises Failed unless the last run left what the undisturbed one did, and nothing half."""
        found, expected = contents(workspace), self.reference["contents"]
        if found != expected:
            other = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
            raise Failed(f"other artifacts: {', '.join(other)}")
        if any((workspace / "artifacts" / ".damaged").iterdir()):
            raise Failed("damaged artifacts")

    def require_no_open_run(self) -> None:
        """Raises Failed if Prefect shows a run that has not ended: here is none."""
        deadline = time.monotonic() + RECORDED
        while left := self._open():
            if time.monotonic() > deadline:
                raise Failed(f"Prefect shows runs as {sorted(left)}")
            time.sleep(0.5)

    def _open(self) -> set[str]:
        states = flow_states(self.server.api)
        return {state for run, state in states.items() if run not in self.before and state not in OVER}

    def rerun(self, workspace: Path) -> None:
        """The run after a disturbed one."""
        require_end(*self.start(workspace).communicate(SECONDS))
        self.require_same(workspace)
        self.require_no_open_run()
        # So that the length finds its way up again.
        self.length *= 1.1


def command(workspace: Path) -> list[str]:
    changed = [part for item in SETTINGS.items() for part in ("--set", "=".join(item))]
    return ["run", "smoke", *changed, "--json", "--workspace", str(workspace)]


def require_end(code: int, _: str, told: str) -> None:
    if code:
        raise Failed(f"exit code {code}: {told[-2000:]}")
    if "Traceback" in told:
        raise Failed(f"a traceback: {told[-2000:]}")


def at_random_moment(soak: Soak, workspace: Path, number: signal.Signals, notes: dict[str, Any]) -> tuple[int, str]:
    """Starts a run and sends a signal at a random moment; its exit code and what it said.

    Raises:
        OverBefore: It had ended before.
        Failed: It has not ended in time.
    """
    moment = soak.draw.uniform(0, soak.length)
    run = soak.start(workspace)
    begun = time.monotonic()
    while time.monotonic() < begun + moment and run.poll() is None:
        time.sleep(0.01)
    if run.poll() is not None:
        soak.length = time.monotonic() - begun
        raise OverBefore
    run.send_signal(number)
    asked = time.monotonic()
    code, _, told = run.communicate(SECONDS)
    records = run_records(workspace) if workspace.exists() else []
    notes |= {
        "moment": round(moment, 2),
        "to_end": round(time.monotonic() - asked, 2),
        "code": code,
        "tasks": len(records[-1].tasks) if records else 0,
        "load": round(os.getloadavg()[0], 1),
    }
    return code, told


def kill(soak: Soak, workspace: Path, number: int, notes: dict[str, Any]) -> None:
    """Killed at a random moment; the next run ends, with the artifacts of an undisturbed one."""
    code, _ = at_random_moment(soak, workspace, signal.SIGKILL, notes)
    if code != -signal.SIGKILL:
        raise OverBefore
    soak.rerun(workspace)
    ends = [record.end for record in run_records(workspace)]
    if ends not in (["killed", "completed"], ["completed"], ["completed", "completed"]):
        raise Failed(f"the records say {ends}")


def ask_to_stop(soak: Soak, workspace: Path, number: int, notes: dict[str, Any]) -> None:
    """Asked to stop at a random moment: it ends soon, says so truly everywhere, and the next run goes on."""
    asked = (signal.SIGINT, signal.SIGTERM)[number % 2]
    notes["signal"] = asked.name
    code, told = at_random_moment(soak, workspace, asked, notes)
    if code == 0:
        raise OverBefore
    # One that has no handlers yet is ended by the signal itself, which shells tell as the same number.
    if code not in (STOPPED[asked], -asked):
        raise Failed(f"exit code {code}: {told[-2000:]}")
    if "Traceback" in told:
        raise Failed(f"a traceback: {told[-2000:]}")
    if records := run_records(workspace) if workspace.exists() else []:
        _require_true_states(soak, records[-1].id, records[-1].end)
    soak.require_no_open_run()
    soak.rerun(workspace)
    if notes["to_end"] > SOON:
        raise Failed(f"it took {notes['to_end']} s to end")


def _require_true_states(soak: Soak, run_id: str, end: str | None) -> None:
    if end not in ENDED:
        raise Failed(f"its record says {end!r}")
    state = flow_states(soak.server.api)[run_id]
    if state != ENDED[end]:
        raise Failed(f"its record says {end}, Prefect {state}")
    if odd := {task.state for task in recorded_task_runs(soak.server.api, run_id)} - TASKS_OVER:
        raise Failed(f"Prefect shows tasks as {sorted(odd)}")


def run_whole(soak: Soak, workspace: Path, number: int, notes: dict[str, Any]) -> None:
    """A run from nothing or from half, in a process or in this one."""
    notes["way"] = way = WAYS[number % len(WAYS)]
    if way.endswith("half"):
        shutil.copytree(soak.undisturbed, workspace, symlinks=True)
        made = sorted(path for path in workspace.glob("artifacts/*/*") if not path.parent.name.startswith("."))
        for place in soak.draw.sample(made, len(made) // 2):
            shutil.rmtree(place)
    if way.startswith("flow"):
        with flow_on(soak.server.api) as run:
            run(workspace, None, **{key.replace(".", "__"): value for key, value in SETTINGS.items()})
    else:
        _run_alone(workspace)
    soak.require_same(workspace)


def _run_alone(workspace: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command(workspace), "--port", str(free_port())],
        cwd=PROJECT,
        env={**environment, **quiet_environment(), "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    require_end(ended.returncode, ended.stdout, ended.stderr)


Trial = Callable[[Soak, Path, int, dict[str, Any]], None]
MODES: dict[str, Trial] = {"runs": run_whole, "kills": kill, "signals": ask_to_stop}


def lines(folder: Path, mode: str) -> list[dict[str, Any]]:
    """The tries so far."""
    path = folder / f"{mode}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def attempt(soak: Soak, mode: str, number: int) -> dict[str, Any]:
    """One try, as the line that is written of it; what did not hold is kept."""
    workspace = soak.folder / f"{mode}-{number}"
    while True:
        shutil.rmtree(workspace, ignore_errors=True)
        notes: dict[str, Any] = {"number": number}
        begun, problem = time.monotonic(), None
        try:
            MODES[mode](soak, workspace, number, notes)
        except OverBefore:
            continue
        except Failed as error:
            problem = str(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:2000]
            (soak.folder / f"{mode}-{number}.txt").write_text(traceback.format_exc())
        if problem:
            # What it left open is told once, and not of the tries that follow too.
            soak.before |= set(flow_states(soak.server.api))
        else:
            shutil.rmtree(workspace)
        return {**notes, "held": not problem, "problem": problem, "seconds": round(time.monotonic() - begun, 1)}


def make_undisturbed(soak: Soak) -> None:
    """The run that the others are held against, unless it is there."""
    if (soak.folder / "undisturbed.json").is_file():
        return
    shutil.rmtree(soak.undisturbed, ignore_errors=True)
    begun = time.monotonic()
    require_end(*soak.start(soak.undisturbed).communicate(SECONDS))
    found = {"contents": contents(soak.undisturbed), "seconds": time.monotonic() - begun}
    (soak.folder / "undisturbed.json").write_text(json.dumps(found, indent=1))


@contextmanager
def soaking(folder: Path) -> Iterator[Soak]:
    """Starts what the tries need."""
    folder.mkdir(parents=True, exist_ok=True)
    set_unless_set({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PREFECT_HOME": str(folder / "home")})
    be_quiet()
    with started_server(folder, free_port()) as server:
        streams = folder / "streams"
        # Those of an earlier call would show through.
        shutil.rmtree(streams, ignore_errors=True)
        streams.mkdir()
        environment = {**os.environ, **quiet_environment(), "PREFECT_API_URL": server.api, "COLUMNS": "200"}
        with forks("flows.cli:main", LOADED, environment=environment, project=PROJECT, folder=streams) as forked:
            yield Soak(folder, server, forked, random.Random(), set(flow_states(server.api)))


def soak(folder: Path, mode: str, wanted: int) -> None:
    """Tries until as many are written down as are wanted."""
    with soaking(folder) as soak:
        make_undisturbed(soak)
        soak.length = soak.reference["seconds"]
        for number in range(len(lines(folder, mode)), wanted):
            line = attempt(soak, mode, number)
            with (folder / f"{mode}.jsonl").open("a", encoding="utf-8") as results:
                results.write(json.dumps(line) + "\n")


def kind(line: dict[str, Any]) -> str:
    """What was tried."""
    return str(line.get("way") or line.get("signal") or "SIGKILL")


def table(folder: Path) -> str:
    """The counts, as a table in Markdown, and what did not hold."""
    rows, problems = ["| what | tries | held |", "|---|---|---|"], []
    for mode in MODES:
        tries = lines(folder, mode)
        tried, held = Counter(map(kind, tries)), Counter(kind(line) for line in tries if line["held"])
        rows += [f"| {mode}: {name} | {count} | {held[name]} |" for name, count in sorted(tried.items())]
        problems += [f"{mode} {line['number']}: {line['problem']}" for line in tries if not line["held"]]
    return "\n".join([*rows, *([""] if problems else []), *problems])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("mode", choices=[*MODES, "counts"])
    parser.add_argument("wanted", nargs="?", type=int, default=20, help="how many tries, those of before included")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="results and workspaces; default ./soak")
    options = parser.parse_args()
    if options.mode == "counts":
        print(table(options.folder))
    else:
        soak(options.folder.resolve(), options.mode, options.wanted)


if __name__ == "__main__":
    main()
