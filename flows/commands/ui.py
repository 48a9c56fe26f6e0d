"""`mlc ui`: the pages of a workspace: its own, and those of Prefect and MLflow."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.terminal.options import WorkspaceOption, existing
from flows.terminal.output import results
from flows.terminal.quiet import quiet_environment
from flows.terminal.server import DEFAULT_PORT, port_is_free, prefect_server
from mlc.chat.tethered import HOST, free_port, start, stop
from mlc.errors import UserError
from mlc.store import ArtifactStore

if TYPE_CHECKING:
    from flows.pages.app import Beside

MLFLOW_PORT = 5000
PAGE_PORT = 4300
LOOK_SECONDS = 0.5
"""How often it is looked whether a server has stopped."""
EXAMPLES = (
    "mlc ui",
    "mlc ui --workspace /data/models",
)


def command(
    workspace: WorkspaceOption = None,
    port: Annotated[int | None, typer.Option(help="Port of the Prefect UI; 4200 or the next free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of the MLflow UI; 5000 or the next free one.")] = None,
    page_port: Annotated[
        int | None, typer.Option(help="Port of the page of runs and answers; 4300 or the next free one.")
    ] = None,
) -> None:
    """Open the pages of a workspace until Ctrl-C.

    Runs and answers, Prefect, MLflow. The page of runs and answers only reads, and works on a workspace that
    nobody may write, too.
    """
    serve_pages(existing(workspace), port=port, mlflow_port=mlflow_port, page_port=page_port, console=results)


def serve_pages(
    workspace: Path, *, port: int | None, mlflow_port: int | None, page_port: int | None, console: Console
) -> None:
    """Serves them until Ctrl-C; of a workspace that cannot be written only the page of runs and answers.

    Args:
        workspace: Folder of the workspace.
        port: Port of the Prefect page.
        mlflow_port: Port of the MLflow page.
        page_port: Port of the page of runs and answers.
        console: Where to print the addresses.

    Raises:
        UserError: A port is taken, or a server does not start.
    """
    # It brings pyarrow and the drawing of the report.
    from flows.pages.app import Beside
    from flows.pages.serving import served_page

    own, chosen = (
        _free(page_port, PAGE_PORT, "--page-port"),
        _free(mlflow_port, MLFLOW_PORT, "--mlflow-port"),
    )
    beside = Beside()
    with served_page(workspace, own, beside):
        console.print(f"Runs     http://{HOST}:{own}", highlight=False)
        if not ArtifactStore(workspace, looking=True).writable:
            console.print("Prefect and MLflow need to write, and this workspace cannot be written.")
            console.print("Ctrl-C stops the page.")
            while True:
                time.sleep(LOOK_SECONDS)
        _serve_beside(workspace, port, chosen, beside, console)


def _free(port: int | None, default: int, option: str) -> int:
    """A port that was asked for, else the usual one, else any that is free.

    Raises:
        UserError: The one that was asked for is taken.
    """
    if port is not None and not port_is_free(port):
        raise UserError(f"The port {port} is taken by another program: choose a free one with {option}.")
    return port or (default if port_is_free(default) else free_port())


def _serve_beside(workspace: Path, port: int | None, mlflow_port: int, beside: "Beside", console: Console) -> None:
    """Serves the pages of Prefect and MLflow, and says where they are."""
    with prefect_server(workspace, port=port or (DEFAULT_PORT if port_is_free(DEFAULT_PORT) else None)) as server:
        beside.prefect = server.url
        console.print(f"Prefect  {server.url}/runs", highlight=False)
        pages = _mlflow(workspace, mlflow_port)
        try:
            beside.mlflow = f"http://{HOST}:{mlflow_port}"
            console.print(f"MLflow   {beside.mlflow}", highlight=False)
            console.print("Ctrl-C stops all of them.")
            while pages.poll() is None:
                time.sleep(LOOK_SECONDS)
            raise UserError(f"The MLflow server stopped: its log is {str(workspace / 'mlflow' / 'server.log')!r}.")
        finally:
            stop(pages)


def _mlflow(workspace: Path, port: int) -> "subprocess.Popen[bytes]":
    folder = workspace.resolve() / "mlflow"
    folder.mkdir(exist_ok=True)
    with (folder / "server.log").open("ab") as output:
        return start(
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", (folder / "artifacts").as_uri()),
            output=output,
            environment={**os.environ, **quiet_environment()},
        )
