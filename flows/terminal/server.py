"""A Prefect server for a run: one that answers, else one of our own on loopback."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.terminal.output import terminal
from flows.terminal.proxies import loopback_past_proxies
from flows.terminal.quiet import quiet_environment, set_unless_set
from mlc.chat.tethered import HOST, free_port, start, stop
from mlc.errors import UserError
from mlc.store.locks import free_slot
from tasks.runtime.prefect_database import DATABASE_FILE, SERVER_FOLDER

START_SECONDS = 180.0
DEFAULT_PORT = 4200
LOCK_SECONDS = 5.0
API_VARIABLE = "PREFECT_API_URL"
PROFILE_VARIABLE = "PREFECT_PROFILE"


@dataclass(frozen=True)
class Server:
    """A Prefect server that answers."""

    url: str
    """Address of the UI."""
    api: str
    """Address of the API."""
    process: "subprocess.Popen[bytes] | None" = None
    """The server, if it was started here."""

    @property
    def gone(self) -> bool:
        """Whether a server that was started here has ended, so that it does not come back."""
        return self.process is not None and self.process.poll() is not None


def answers(api: str) -> bool:
    """Whether a Prefect server answers at the address of an API."""
    import httpx

    key = os.environ.get("PREFECT_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Reading the authorities of TLS, for nothing where there is none, takes longer than a server on loopback.
    verify = not api.startswith("http://")
    try:
        answer = httpx.get(f"{api.rstrip('/')}/health", headers=headers, timeout=5, verify=verify)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    # The server's pages answer every address with their own page.
    return answer.status_code == httpx.codes.OK and "html" not in answer.headers.get("content-type", "")


@dataclass(frozen=True)
class Configured:
    """A Prefect API that a person has named."""

    api: str
    named_by: str
    """``PREFECT_API_URL``, or the profile that holds it."""
    settings: dict[str, str]
    """What else the profile sets; nothing for the variable."""


def configured_api() -> Configured | None:
    """The Prefect API that the environment names, else the active profile of Prefect.

    Prefect itself is not asked, because it reads its settings once, when it is imported.
    """
    if variable := os.environ.get(API_VARIABLE):
        return Configured(variable, API_VARIABLE, {})
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
        name = os.environ.get(PROFILE_VARIABLE) or profiles.get("active")
        profile = {key: str(value) for key, value in profiles["profiles"][name].items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    api = profile.pop(API_VARIABLE, None)
    return Configured(api, f"{API_VARIABLE} of the Prefect profile {name!r}", profile) if api else None


def named_server(configured: Configured) -> Server:
    """The server that a person has named, with ``/api`` at the end of its address or without it.

    Raises:
        UserError: It does not answer.
    """
    given = configured.api.rstrip("/")
    for api in (given, f"{given}/api"):
        if answers(api):
            return Server(api.removesuffix("/api"), api)
    raise UserError(
        f"The Prefect server {given!r} ({configured.named_by}) does not answer: start it, or unset that to have one "
        "started for the run."
    )


def port_is_free(port: int) -> bool:
    """Whether a port on loopback can be taken."""
    with socket.socket() as probe:
        # As servers do; else a port that was closed a moment ago counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def prefect_server(workspace: Path, *, port: int | None = None) -> Iterator[Server]:
    """Gives a server for the block: one that is there, else one of our own, which is stopped at its end.

    Args:
        workspace: Folder of the workspace.
        port: Port for a server of our own; None for any free one.

    Raises:
        UserError: As of :func:`server_there` and :func:`own_server`.
    """
    if there := server_there(port=port):
        yield there
        return
    with own_server(workspace, port or free_port()) as server:
        yield server


def server_there(*, port: int | None = None) -> Server | None:
    """The server that a run is recorded by without starting one; None where there is none.

    An address in ``PREFECT_API_URL``, or in the active profile of Prefect, is used; else a server that answers on
    Prefect's own port 4200, such as that of ``mlc ui``.

    Args:
        port: Look at this port alone.

    Raises:
        UserError: The configured server does not answer, or another program has taken the port.
    """
    loopback_past_proxies()
    configured = configured_api() if port is None else None
    if configured:
        # The run has a home of its own, in which there are no profiles.
        set_unless_set(configured.settings)
        return named_server(configured)
    looked = port or DEFAULT_PORT
    if answers(api_of(looked)):
        return Server(_url(looked), api_of(looked))
    if port is not None and not port_is_free(port):
        raise UserError(f"The port {port} is taken by another program: choose a free one with --port.")
    return None


@contextmanager
def own_server(workspace: Path, port: int) -> Iterator[Server]:
    """Starts a server on loopback in a folder of the workspace that no other server has.

    Args:
        workspace: Folder of the workspace.
        port: Its port. Not 4200 for a run: whoever finds a server there may rely on it to stay.

    Raises:
        UserError: It does not answer in time.
    """
    # A second run in the workspace has its own server, and so its own database: two on one would fight over it.
    with (
        free_slot(workspace.resolve(), SERVER_FOLDER) as home,
        started_server(workspace, port, home=home) as server,
    ):
        yield server


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def api_of(port: int) -> str:
    """Address of the API of a server of our own."""
    return f"{_url(port)}/api"


@contextmanager
def started_server(workspace: Path, port: int, *, home: Path | None = None) -> Iterator[Server]:
    """Starts a server on loopback with its database in the workspace, and stops it at the end of the block.

    Args:
        workspace: Folder of the workspace.
        port: Port of the server.
        home: Folder of its database; ``prefect`` in the workspace if left out.

    Raises:
        UserError: It does not answer in time.
    """
    loopback_past_proxies()
    home = home or workspace.resolve() / SERVER_FOLDER
    home.mkdir(parents=True, exist_ok=True)
    _require_database(home / DATABASE_FILE)
    environment = {
        **os.environ,
        **quiet_environment(),
        "PREFECT_HOME": str(home),
        "PREFECT_UI_API_URL": api_of(port),
    }
    for name in (API_VARIABLE, PROFILE_VARIABLE):
        # Nor are there profiles in its home.
        environment.pop(name, None)
    log = home / "server.log"
    with log.open("ab") as output:
        # A run that is killed takes its server along. Ctrl-C must reach the run first, so that the last states arrive.
        process = start(
            *(sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
            output=output,
            environment=environment,
        )
        try:
            _wait_until_it_answers(process, api_of(port), log)
            yield Server(_url(port), api_of(port), process)
        finally:
            stop(process)


def _require_database(path: Path) -> None:
    """Sets a damaged database aside, so that the server makes a new one: it holds only what Prefect's pages show.

    Raises:
        UserError: Another program holds it.
    """
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_master")
            database.rollback()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise UserError(f"The Prefect database {str(path)!r} cannot be opened: {error}.") from None
        raise UserError(
            f"The Prefect database {str(path)!r} is locked by another program: close it, and start the run again."
        ) from None
    except sqlite3.DatabaseError:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        terminal.print(
            f"The Prefect database {str(path)!r} was damaged and lies beside as {aside.name!r} now; Prefect's pages "
            "show nothing of earlier runs.",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", api: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(api):
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"The Prefect server did not start at {api}: its log is {str(log)!r}.")
        time.sleep(0.3)
