"""The journal of a workspace: what every run was asked for and what became of each of its tasks.

A run writes its record line by line as it goes, so that one that is killed leaves one too::

    runs/000007.jsonl    {"run": 7, "id": …, "name": …, "started": …, "config": {…}}
                         {"task": {"stage": …, "key": …, "state": …, …}}        one line a task
                         {"failed": {"stage": …, "language": …, "subject": …}}  one line a task that ended in an error
                         {"set_aside": {"method": …, "reason": …}}              one line a method that was given up
                         {"end": "completed"}
    runs/000007.stop     there from when the run is asked to stop until it ends
    runs/ID.open         held from before a run has its record until it ends; ID is that of the flow run

Stages in other processes write into the journal of their run as well; such lines name the process (``by``), and the
process of the flow reads them. Beside outcomes these tell what starts (``starting``) and what a person should know
(``note``).

Runs are in the order of their numbers; clocks may go back.
"""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mlc.errors import UserError
from mlc.store.lines import append_line, read_lines_from, read_lines_with_damage
from mlc.store.locks import lock_if_free
from mlc.store.names import is_artifact

RUNS_FOLDER = "runs"
STOP = "stop"
"""Word that asks a run on other machines to stop."""
WORDS_SECONDS = 5.0
"""How often words of other machines are looked for."""
_NAME = re.compile(r"([0-9]{6,18})\.jsonl")
_OPEN = ".open"
_PASSING = {"starting", "note"}
"""Lines that processes write for the process of the flow."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run."""

    number: int
    """Counts the runs of the workspace, from 1."""
    id: str
    """Id of the flow run in Prefect; empty if it has none."""
    name: str
    """Name of the configuration."""
    started: str
    config: dict[str, Any] = field(default_factory=dict)
    """The whole configuration, as plain data."""
    tasks: tuple[dict[str, Any], ...] = ()
    """Stage, language, subject, state, seconds, reason and key of each task that ended well."""
    failed: tuple[dict[str, Any], ...] = ()
    """Stage, language, subject and seconds of each task that ended in an error while it made its artifact, and did not
    end well later."""
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Why each method that the run went on without was given up, in a sentence."""
    end: str | None = None
    """``completed``, ``failed``, ``interrupted`` by somebody who asked it to stop, or ``killed``; None for one that is
    still going, or was killed and no run has started in the workspace since."""
    damaged: int = 0
    """Lines that say nothing that can be read, which are passed over."""

    def key_of(self, stage: str, language: str | None, subject: str | None) -> str | None:
        """Key of the artifact that a task of this run made or found; None if it had no such task."""
        return self._keys.get((stage, language, subject))

    @cached_property
    def _keys(self) -> dict[tuple[Any, ...], str]:
        # Of several, the first one counts.
        return {_place(task): task["key"] for task in reversed(self.tasks)}


class Journal:
    """Writes the record of one run.

    Args:
        path: Its file.
        number: Number of the run.
        by: What every line names as the process that wrote it; nothing in the process of the flow.
    """

    def __init__(self, path: Path, number: int, by: str | None = None) -> None:
        self.path = path
        self.number = number
        self._by = {} if by is None else {"by": by}

    @classmethod
    def of(cls, workspace: Path, number: int, by: str | None = None) -> "Journal":
        """The record of a run that has one."""
        return cls(_file(workspace / RUNS_FOLDER, number), number, by)

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds a line; it is in the hands of the system when this returns. Any number of processes may."""
        append_line(self.path, {**line, **self._by})

    @property
    def _stop_file(self) -> Path:
        return self.path.with_suffix(".stop")

    def ask_to_stop(self) -> None:
        """Asks whoever works for the run, in any process, to stop."""
        self._stop_file.touch()

    def stop_asked(self) -> bool:
        """Whether somebody has."""
        return self._stop_file.exists()

    def end(self, how: str) -> None:
        """Closes the record."""
        self.write({"end": how})
        self._stop_file.unlink(missing_ok=True)

    def read_from(self, position: int) -> tuple[list[dict[str, Any]], int]:
        """The lines after a position, in bytes, and the position after the last whole one."""
        return read_lines_from(self.path, position)


class Words(Protocol):
    """Carries words about runs between machines, see :class:`mlc.store.remote.RemoteArtifacts`."""

    def tell(self, run_id: str, name: str, content: bytes) -> None:
        """Puts one there."""

    def heard(self, run_id: str, name: str) -> bool:
        """Whether one is there."""


class DistantJournal(Journal):
    """Tells of a run whose record lies on another machine, by way of the storage that both have.

    Args:
        words: The storage.
        run_id: Id of the run.
        path: As of :class:`Journal`; nothing is there.
        number: Number of the run.
        by: Names this process.
    """

    def __init__(self, words: Words, run_id: str, path: Path, number: int, by: str) -> None:
        super().__init__(path, number, by)
        self._words = words
        self._run_id = run_id
        self._asked = False
        self._looked = 0.0

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds a line; whoever keeps the record takes it over."""
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        self._words.tell(self._run_id, name, json.dumps({**line, **self._by}).encode())

    def stop_asked(self) -> bool:
        """Whether somebody has asked; looked for every few seconds."""
        if not self._asked and time.monotonic() - self._looked > WORDS_SECONDS:
            self._looked = time.monotonic()
            with suppress(UserError):  # a storage that cannot be reached now asks for nothing
                self._asked = self._words.heard(self._run_id, STOP)
        return self._asked


@contextmanager
def announced(workspace: Path, run_id: str) -> Iterator[None]:
    """Shows while the block runs that a run is there, although it waits for the workspace and has no record yet.

    Args:
        workspace: Folder of the workspace.
        run_id: Id of the flow run.
    """
    folder = workspace / RUNS_FOLDER
    folder.mkdir(exist_ok=True)
    unseen, path = folder / f".{run_id}", folder / f"{run_id}{_OPEN}"
    # It is held before others see it: whoever finds it free may take its run for dead.
    with lock_if_free(unseen):
        unseen.rename(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_open(workspace: Path, run_id: str) -> bool | None:
    """Whether a process holds what :func:`announced` shows; None where it is not shown, any more or at all."""
    path = workspace / RUNS_FOLDER / f"{run_id}{_OPEN}"
    if not path.exists():
        return None
    with lock_if_free(path) as free:
        return not free


def take_dead(workspace: Path) -> set[str]:
    """Ids of the runs that were announced and whose process ended without a word; each is told once."""
    dead = set()
    for path in (workspace / RUNS_FOLDER).glob(f"*{_OPEN}"):
        with lock_if_free(path) as free:
            if free:
                dead.add(path.name.removesuffix(_OPEN))
                path.unlink(missing_ok=True)
    return dead


@contextmanager
def recorded(workspace: Path, *, run_id: str, name: str, config: Mapping[str, Any]) -> Iterator[Journal]:
    """Opens the record of a run, and closes it with how the block ended.

    Args:
        workspace: Folder of the workspace.
        run_id: Id of the flow run.
        name: Name of the configuration.
        config: The configuration, as plain data.
    """
    journal = _open(workspace / RUNS_FOLDER)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    journal.write({"run": journal.number, "id": run_id, "name": name, "started": started, "config": dict(config)})
    end = "failed"
    try:
        yield journal
        end = "completed"
    finally:
        journal.end("interrupted" if journal.stop_asked() else end)


def _open(folder: Path) -> Journal:
    folder.mkdir(exist_ok=True)
    while True:
        number = max((number for number, _ in _files(folder)), default=0) + 1
        path = _file(folder, number)
        try:
            # Two runs that start at once do not get the same number.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return Journal(path, number)
        except FileExistsError:
            continue


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jsonl"


def _files(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def run_records(workspace: Path) -> list[RunRecord]:
    """The records of a workspace, oldest first; what cannot be read is passed over, see :func:`damaged_records`."""
    return [record for _, path in _files(workspace / RUNS_FOLDER) if (record := read_record(path))]


def close_killed(workspace: Path) -> None:
    """Closes the records of runs that were killed; for who is alone in the workspace."""
    for record in run_records(workspace):
        if record.end is None:
            Journal.of(workspace, record.number).end("killed")


def find_run(records: list[RunRecord], name: str) -> RunRecord:
    """The run that a person means: by number, or by the beginning of its id.

    Raises:
        UserError: There is none, or more than one.
    """
    wanted = name.removeprefix("#")
    found = [
        record for record in records if str(record.number) == wanted or (len(name) >= 4 and record.id.startswith(name))
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(str(record.number) for record in records[-10:]) or "none"
    problem = "means more than one run" if found else "is not a run of this workspace"
    raise UserError(f"{name!r} {problem}: give a number (the last ones are {known}), or the beginning of a run's id.")


def damaged_records(workspace: Path) -> list[str]:
    """Says of each record that is damaged which one it is, and how much of it is passed over."""
    told = []
    for _, path in _files(workspace / RUNS_FOLDER):
        record, place = read_record(path), f"{RUNS_FOLDER}/{path.name}"
        if record is None and path.stat().st_size:
            told.append(f"{place} is passed over: it does not say of which run it is")
        elif record is not None and record.damaged:
            told.append(f"{place} has {record.damaged} line{'s' * (record.damaged > 1)} that cannot be read")
    return told


def is_record_name(name: str) -> bool:
    """Whether a file of this name is the record of a run."""
    return _NAME.fullmatch(name) is not None


def read_record(path: Path) -> RunRecord | None:
    """One record; None if it does not say of which run it is, or cannot be read."""
    try:
        lines, damaged = read_lines_with_damage(path)
    except OSError:
        return None
    head: dict[str, Any] = {}
    tasks: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    set_aside: dict[str, str] = {}
    end: str | None = None
    for line in lines:
        if "task" in line and (task := _task(line["task"])):
            tasks.append(task)
        elif "failed" in line and (failure := _failure(line["failed"])):
            failed.append(failure)
        elif "set_aside" in line and (given_up := _set_aside(line["set_aside"])):
            set_aside |= given_up
        elif isinstance(line.get("end"), str):
            end = line["end"]
        elif _is_head(line):
            head = line
        elif not line.keys() & _PASSING:
            damaged += 1
    if not head:
        return None
    well = {_place(task) for task in tasks}
    return RunRecord(
        number=int(path.stem),
        id=head["id"],
        name=head["name"],
        started=head["started"],
        config=head.get("config", {}),
        tasks=tuple(tasks),
        failed=tuple(failure for failure in failed if _place(failure) not in well),
        set_aside=set_aside,
        end=end,
        damaged=damaged,
    )


def _is_head(line: dict[str, Any]) -> bool:
    texts = (line.get(name) for name in ("id", "name", "started"))
    return type(line.get("run")) is int and all(isinstance(text, str) for text in texts) and _is_config(line)


def _is_config(line: dict[str, Any]) -> bool:
    return isinstance(line.get("config", {}), dict)


def _task(task: Any) -> dict[str, Any] | None:
    """What a line says of a task; None if it cannot be."""
    if not isinstance(task, dict) or not is_artifact(task.get("stage"), task.get("key")):
        return None
    found = {"language": None, "subject": None, "state": "", **task}
    return found if isinstance(found["state"], str) and _is_place(found) else None


def _failure(failure: Any) -> dict[str, Any] | None:
    """What a line says of a task that failed; None if it cannot be."""
    if not isinstance(failure, dict) or not isinstance(failure.get("stage"), str):
        return None
    found = {"language": None, "subject": None, **failure}
    return found if _is_place(found) else None


def _set_aside(told: Any) -> dict[str, str] | None:
    """What a line says of a method that was given up; None if it cannot be."""
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("method", "reason")):
        return None
    return {told["method"]: told["reason"]}


def _is_place(found: Mapping[str, Any]) -> bool:
    return all(text is None or isinstance(text, str) for text in (found["language"], found["subject"]))


def _place(task: Mapping[str, Any]) -> tuple[Any, ...]:
    return task["stage"], task["language"], task["subject"]
