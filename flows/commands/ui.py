"""`mlc ui`: the Prefect and MLflow pages of a workspace."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.terminal.options import WorkspaceOption, existing
from flows.terminal.output import results
from flows.terminal.quiet import quiet_environment
from flows.terminal.server import DEFAULT_PORT, HOST, free_port, port_is_free, prefect_server, stop
from mlc.errors import UserError
from mlc.tethered import command as tethered

MLFLOW_PORT = 5000


def command(
    workspace: WorkspaceOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect UI; 4200 or the next free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of the MLflow UI; 5000 or the next free one.")] = None,
) -> None:
    """Open the Prefect and MLflow pages of a workspace until Ctrl-C."""
    serve_pages(existing(workspace), port=port, mlflow_port=mlflow_port, console=results)


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
    with prefect_server(workspace, port=port or (DEFAULT_PORT if port_is_free(DEFAULT_PORT) else None)) as server:
        pages = _mlflow(workspace, chosen)
        try:
            console.print(f"Prefect  {server.url}/runs", highlight=False)
            console.print(f"MLflow   http://{HOST}:{chosen}", highlight=False)
            console.print("Ctrl-C stops both.")
            while pages.poll() is None:
                time.sleep(0.5)
            raise UserError(f"The MLflow server stopped: its log is {str(workspace / 'mlflow' / 'server.log')!r}.")
        finally:
            stop(pages)


def _mlflow(workspace: Path, port: int) -> "subprocess.Popen[bytes]":
    folder = workspace.resolve() / "mlflow"
    folder.mkdir(exist_ok=True)
    with (folder / "server.log").open("ab") as output:
        return subprocess.Popen(
            tethered(
                *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", (folder / "artifacts").as_uri()),
            ),
            env={**os.environ, **quiet_environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own group, so that all of it can be ended.
            start_new_session=True,
        )
