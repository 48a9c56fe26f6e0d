"""The Prefect and MLflow pages of a workspace."""

import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from flows.terminal.server import DEFAULT_PORT, HOST, free_port, port_is_free, prefect_server, quiet_environment
from mlc.errors import UserError

MLFLOW_PORT = 5000


def serve_pages(workspace: Path, *, port: int | None, mlflow_port: int | None, console: Console) -> None:
    """Serves both until Ctrl-C.

    Args:
        workspace: Folder of the workspace.
        port: Port of the Prefect page.
        mlflow_port: Port of the MLflow page.
        console: Where to print the addresses.

    Raises:
        UserError: A port is taken, or a server does not start.
    """
    if mlflow_port is not None and not port_is_free(mlflow_port):
        raise UserError(f"The port {mlflow_port} is taken by another program: choose a free one with --mlflow-port.")
    chosen = mlflow_port or (MLFLOW_PORT if port_is_free(MLFLOW_PORT) else free_port())
    with prefect_server(workspace, port=port or _free_default()) as server:
        pages = _mlflow(workspace, chosen)
        try:
            console.print(f"Prefect  {server.url}/runs", highlight=False)
            console.print(f"MLflow   http://{HOST}:{chosen}", highlight=False)
            console.print("Ctrl-C stops both.")
            while pages.poll() is None:
                time.sleep(0.5)
            raise UserError(f"The MLflow server stopped: its log is {str(workspace / 'mlflow' / 'server.log')!r}.")
        finally:
            pages.terminate()
            pages.wait(timeout=15)


def _free_default() -> int | None:
    return DEFAULT_PORT if port_is_free(DEFAULT_PORT) else None


def _mlflow(workspace: Path, port: int) -> "subprocess.Popen[bytes]":
    folder = workspace.resolve() / "mlflow"
    folder.mkdir(exist_ok=True)
    with (folder / "server.log").open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", (folder / "artifacts").as_uri()),
            ],
            env={**os.environ, **quiet_environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
