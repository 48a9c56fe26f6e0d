"""`mlc status`: what a workspace holds."""

from pathlib import Path

from rich.console import Console

from flows.terminal.options import WorkspaceOption, existing
from flows.terminal.output import plain_table, results
from flows.terminal.quiet import be_quiet
from mlc.store import ArtifactStore
from mlc.store.runs import run_records

SHOWN_RUNS = 5


def command(workspace: WorkspaceOption = None) -> None:
    """Show what a workspace holds: artifacts, the last report, the registered versions."""
    be_quiet()
    show_status(existing(workspace), results)


def show_status(workspace: Path, console: Console) -> None:
    """Prints the artifacts by stage, the last runs, the newest report, and the registered versions.

    Args:
        workspace: Folder of the workspace.
        console: Where to print.
    """
    store = ArtifactStore(workspace)
    _show_artifacts(store, console)
    _show_runs(store.workspace, console)
    reports = store.manifests("report")
    if reports:
        page = store.root / "report" / reports[-1]["key"] / "report.html"
        console.print(f"\nReport: {page}", highlight=False, soft_wrap=True)
    if store.manifests("register"):
        _show_versions(store, console)


def _show_artifacts(store: ArtifactStore, console: Console) -> None:
    from flows.stages import STAGES

    table = plain_table("stage", "artifacts", "rows", "MiB", "newest", right=("artifacts", "rows", "MiB"))
    for stage in STAGES:
        manifests = store.manifests(stage.name)
        if manifests:
            size = sum(file["bytes"] for manifest in manifests for file in manifest["files"].values())
            rows = sum(manifest["rows"] or 0 for manifest in manifests)
            newest = manifests[-1]["created"][:19].replace("T", " ")
            table.add_row(stage.name, str(len(manifests)), str(rows or ""), f"{size / 2**20:.1f}", newest)
    console.print(table)


def _show_runs(workspace: Path, console: Console) -> None:
    records = run_records(workspace)[-SHOWN_RUNS:]
    if not records:
        return
    table = plain_table("run", "configuration", "started", "ended", "ran", "cached", right=("run", "ran", "cached"))
    for record in records:
        ran = sum(task["state"] == "ran" for task in record.tasks)
        started = record.started[:19].replace("T", " ")
        counts = (str(ran), str(len(record.tasks) - ran))
        table.add_row(str(record.number), record.name, started, record.end or "killed or still going", *counts)
    console.print()
    console.print(table)


def _show_versions(store: ArtifactStore, console: Console) -> None:
    from tasks.runtime.registry import (
        CANDIDATE,
        CHAMPION,
        PROMOTIONS_FILE,
        candidate,
        connect,
        note_champion,
        read_promotions,
        registry_errors,
        registry_of,
    )

    settings, record = registry_of(store), store.workspace / PROMOTIONS_FILE
    client = connect(settings, store.workspace)
    with registry_errors(settings, store.workspace):
        aliases = {CANDIDATE: candidate(client, settings.model_name)}
        aliases[CHAMPION] = note_champion(client, record, settings.model_name)
        versions = client.search_model_versions(f"name = '{settings.model_name}'")
    table = plain_table("version", "gate", "languages", "seed", "alias")
    for version in sorted(versions, key=lambda found: int(found.version)):
        tags = version.tags
        alias = ", ".join(name for name, number in aliases.items() if number == str(version.version))
        gate = "cannot answer" if tags.get("asked") == "failed" else tags.get("gate", "not judged")
        table.add_row(str(version.version), gate, tags.get("languages", ""), tags.get("seed", ""), alias)
    console.print(f"\nRegistered model {settings.model_name}:", highlight=False)
    console.print(table)
    promotions = read_promotions(record, settings.model_name)
    if promotions:
        last = promotions[-1]
        what = f"Last promotion: version {last['version']}" if last["version"] else "The alias champion was taken away"
        console.print(f"\n{what}, {last['time']}, by {last['by']}.", highlight=False)
