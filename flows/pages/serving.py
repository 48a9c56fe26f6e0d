"""Serves the page on loopback, in a thread of the process that opens it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from flows.pages.app import Beside, make_app
from mlc.chat.tethered import HOST

STOP_SECONDS = 5


@contextmanager
def served_page(workspace: Path, port: int, beside: Beside) -> Iterator[None]:
    """Serves the page of a workspace for the block.

    Args:
        workspace: Folder of the workspace.
        port: A free port on loopback; requests are taken from here on.
        beside: Where the pages of Prefect and MLflow are; may be filled in later.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(workspace, beside),
            # What is asked for, and what goes wrong, is in no log.
            log_config=None,
            access_log=False,
            log_level="critical",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
    with socket.create_server((HOST, port)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="mlc-page", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(2 * STOP_SECONDS)
