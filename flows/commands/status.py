"""What a workspace holds, and promotion by a person."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tasks.runtime.registry import (
    CHAMPION,
    PROMOTIONS_FILE,
    ModelVersion,
    champion,
    connect,
    promote_version,
    read_promotions,
)
from tasks.runtime.settings import RegistrySettings

SHOWN_RUNS = 5
STAGES = (
    "ingest",
    "translate",
    "signals",
    "filter",
    "dataset",
    "align",
    "generate",
    "evaluate",
    "report",
    "register",
    "promote",
)


def show_status(workspace: Path, console: Console) -> None:
    """Prints the artifacts by stage, the last runs, the newest report, and the registered versions.

    Args:
        workspace: Folder of the workspace.
        console: Where to print.
    """
    store = ArtifactStore(workspace)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "artifacts", "rows", "MiB", "newest"):
        table.add_column(name, justify="left" if name in ("stage", "newest") else "right")
    for stage in STAGES:
        manifests = store.manifests(stage)
        if manifests:
            size = sum(file["bytes"] for manifest in manifests for file in manifest["files"].values())
            rows = sum(manifest["rows"] or 0 for manifest in manifests)
            newest = manifests[-1]["created"][:19].replace("T", " ")
            table.add_row(stage, str(len(manifests)), str(rows or ""), f"{size / 2**20:.1f}", newest)
    console.print(table)
    _show_runs(store.workspace, console)
    reports = store.manifests("report")
    if reports:
        page = store.root / "report" / reports[-1]["key"] / "report.html"
        console.print(f"\nReport: {page}", highlight=False, soft_wrap=True)
    _show_versions(store, console)


def _show_runs(workspace: Path, console: Console) -> None:
    records = run_records(workspace)[-SHOWN_RUNS:]
    if not records:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "configuration", "started", "ended", "ran", "cached"):
        table.add_column(name, justify="right" if name in ("run", "ran", "cached") else "left")
    for record in records:
        ran = sum(task["state"] == "ran" for task in record.tasks)
        started = record.started[:19].replace("T", " ")
        counts = (str(ran), str(len(record.tasks) - ran))
        table.add_row(str(record.number), record.name, started, record.end or "killed or still going", *counts)
    console.print()
    console.print(table)


def promote_by_hand(workspace: Path, version: str, *, name: str, force: bool, reason: str, console: Console) -> None:
    """Makes a version champion.

    Args:
        workspace: Folder of the workspace.
        version: Version in the registry.
        name: Name of the registered model; that of the last run if empty.
        force: Promote although the gate failed.
        reason: Why; needed with ``force``.
        console: Where to print.

    Raises:
        UserError: There is no such version, its gate failed and ``force`` is off, or the reason is missing.
    """
    from mlflow.exceptions import MlflowException

    store = ArtifactStore(workspace)
    settings = _registry(store, name)
    client = connect(settings, store.workspace)
    try:
        found = client.get_model_version(settings.model_name, version)
    except MlflowException:
        raise UserError(
            f"There is no version {version!r} of {settings.model_name!r}: run `mlc status` for the versions."
        ) from None
    gate = found.tags.get("gate", "not judged")
    if gate != "passed" and not force:
        raise UserError(
            f"Version {version} of {settings.model_name!r} did not pass the gate ({gate}): see its report, or "
            "promote it all the same with --force --reason 'why'."
        )
    if force and not reason.strip():
        raise UserError("The option --force needs --reason, which is written into the promotion record.")
    target = ModelVersion(str(found.run_id), settings.model_name, version)
    record = store.workspace / PROMOTIONS_FILE
    previous = promote_version(client, record, target, [reason] if reason else [f"gate {gate}"], by="person")
    before = f" in place of version {previous}" if previous and previous != version else ""
    console.print(f"Version {version} of {settings.model_name} is champion{before}.", highlight=False)


def _registry(store: ArtifactStore, name: str) -> RegistrySettings:
    registered = store.manifests("register")
    if not registered:
        raise UserError("Nothing is registered in this workspace yet: run `mlc run` first.")
    stored: dict[str, Any] = registered[-1]["parts"]["settings"]["registry"]
    return RegistrySettings(**{**stored, **({"model_name": name} if name else {})})


def _show_versions(store: ArtifactStore, console: Console) -> None:
    if not store.manifests("register"):
        return
    settings = _registry(store, "")
    client = connect(settings, store.workspace)
    current = champion(client, settings.model_name)
    versions = client.search_model_versions(f"name = '{settings.model_name}'")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "gate", "languages", "seed", "alias"):
        table.add_column(column)
    for version in sorted(versions, key=lambda found: int(found.version)):
        tags = version.tags
        alias = CHAMPION if str(version.version) == current else ""
        table.add_row(
            str(version.version), tags.get("gate", "not judged"), tags.get("languages", ""), tags.get("seed", ""), alias
        )
    console.print(f"\nRegistered model {settings.model_name}:", highlight=False)
    console.print(table)
    promotions = read_promotions(store.workspace / PROMOTIONS_FILE, settings.model_name)
    if promotions:
        last = promotions[-1]
        console.print(f"\nLast promotion: version {last['version']}, {last['time']}, by {last['by']}.", highlight=False)
