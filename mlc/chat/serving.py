"""A server of one model for as long as it is asked: started by a person's command, waited for, and ended.

It changes no text, as :mod:`mlc.chat.client`; what the command says is in the key of what it answered.
"""

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlc.chat.tethered import HOST, free_port, start, stop
from mlc.errors import UserError
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.drafts import open_private

PATH_MARK, PORT_MARK = "{path}", "{port}"
"""What a command must have: where the model is, and on which port of loopback it is to answer."""
START_SECONDS = 900.0
"""How long a server may take until it answers, unless somebody says otherwise."""
LOOKS_EVERY = 0.2
"""Seconds between two looks at whether it answers."""


@dataclass(frozen=True)
class Serving:
    """A server that answers."""

    address: str
    """Base address, such as ``http://127.0.0.1:8000/v1``."""
    model: str
    """What it calls the model."""


def require_marks(words: str) -> None:
    """Checks the command of a server.

    Raises:
        ValueError: It is no command line, or has no place for the model or the port.
    """
    try:
        shlex.split(words)
    except ValueError:
        raise ValueError(f"the command {words!r} has a quote that does not end: close it") from None
    missing = [mark for mark in (PATH_MARK, PORT_MARK) if mark not in words]
    if missing:
        raise ValueError(
            f"the command {words!r} lacks {' and '.join(missing)}: write it like vllm serve {PATH_MARK} --port "
            f"{PORT_MARK}"
        )


@contextmanager
def served(
    words: str,
    model: str,
    log: Path,
    *,
    setting: str,
    seconds: float = START_SECONDS,
    should_stop: ShouldStop = never,
) -> Iterator[Serving]:
    """Starts a server, waits until it names its model, and ends it with all that it started after the block.

    Args:
        words: The command line, with :data:`PATH_MARK` and :data:`PORT_MARK`. No shell reads it.
        model: What takes the place of the first: a folder, a file or a hub id.
        log: File for what the server writes, which may hold prompts; only its owner may read it.
        setting: What a person knows the command as, for errors.
        seconds: How long it may take until it answers.
        should_stop: Looked at while it starts.

    Raises:
        UserError: There is no such command, it ended, or it did not answer in time.
        Stopped: It was asked to stop.
    """
    port = free_port()
    line = [word.replace(PATH_MARK, model).replace(PORT_MARK, str(port)) for word in shlex.split(words)]
    if shutil.which(line[0]) is None:
        raise UserError(f"There is no command {line[0]!r}, which {setting} starts: install it, or correct {setting}.")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open_private(log, "wb") as output:
        process = start(*line, output=output)
    try:
        yield _wait(process, f"http://{HOST}:{port}/v1", log, setting, seconds, should_stop)
    finally:
        stop(process)


def _wait(
    process: "subprocess.Popen[bytes]",
    address: str,
    log: Path,
    setting: str,
    seconds: float,
    should_stop: ShouldStop,
) -> Serving:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stop_if(should_stop)
        if process.poll() is not None:
            raise UserError(
                f"The server that {setting} starts ended with code {process.returncode} before it answered: what it "
                f"wrote is in {str(log)!r}."
            )
        if (name := _named(address)) is not None:
            return Serving(address, name)
        time.sleep(LOOKS_EVERY)
    raise UserError(
        f"The server that {setting} starts did not answer within {seconds:g} s: what it wrote is in {str(log)!r}."
    )


def _named(address: str) -> str | None:
    """What a server calls its model; None while it does not answer, or names none."""
    import httpx

    try:
        # Proxies of the environment have no part in what is on this machine.
        with httpx.Client(timeout=5, trust_env=False) as client:
            return str(client.get(f"{address}/models").raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError):
        return None
