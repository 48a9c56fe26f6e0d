"""A Prefect server that the processes of the tests share."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.terminal.server import Server, free_port, started_server
from mlc.store.locks import file_lock


@contextmanager
def shared_server(folder: Path) -> Iterator[Server]:
    """Starts a server, or takes the one that another process has started; it goes on until nobody uses it.

    Args:
        folder: One that the processes share.
    """
    note, turn, users = folder / "server.json", folder / ".server-lock", folder / ".server-users"
    with ExitStack() as own, users.open("w") as using:
        with file_lock(turn):
            if note.exists():
                server = Server(**json.loads(note.read_text(encoding="utf-8")))
            else:
                server = own.enter_context(started_server(folder, free_port()))
                note.write_text(json.dumps({"url": server.url, "api": server.api}), encoding="utf-8")
            fcntl.flock(using, fcntl.LOCK_SH)
        yield server
        fcntl.flock(using, fcntl.LOCK_UN)
        if server.process:
            with file_lock(turn):
                fcntl.flock(using, fcntl.LOCK_EX)
                note.unlink()
                own.close()
