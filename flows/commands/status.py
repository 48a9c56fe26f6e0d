"""`mlc status`: what a workspace holds."""

from functools import partial
from pathlib import Path

from rich.console import Console

from flows.terminal.explanations import SHOWN_DIGITS
from flows.terminal.options import WorkspaceOption, existing
from flows.terminal.output import plain_table, results, shown
from flows.terminal.quiet import be_quiet
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.damages import read_damages
from mlc.store.runs import damaged_records, run_records

SHOWN_RUNS = 5
SHOWN_DAMAGES = 5


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
    store = ArtifactStore(workspace, looking=True)
    _show_artifacts(store, console)
    _show_runs(store.workspace, console)
    reports = store.manifests("report")
    if reports:
        page = store.root / "report" / reports[-1]["key"] / "report.html"
        console.print(f"\nReport: {shown(page)}", highlight=False, soft_wrap=True)
    if store.manifests("register"):
        try:
            _show_versions(store, console)
        except UserError as error:
            # What the workspace itself holds is told in any case.
            console.print(f"\n{shown(error)}", highlight=False, soft_wrap=True)
    _show_damages(store, console)


def _show_artifacts(store: ArtifactStore, console: Console) -> None:
    from flows.stages import STAGES

    table = plain_table("stage", "artifacts", "rows", "MiB", "newest", right=("artifacts", "rows", "MiB"))
    for stage in STAGES:
        manifests = store.manifests(stage.name)
        if manifests:
            size = sum(file["bytes"] for manifest in manifests for file in manifest["files"].values())
            rows = sum(manifest["rows"] or 0 for manifest in manifests)
            newest = manifests[-1]["created"][:19].replace("T", " ")
            table.add_row(stage.name, str(len(manifests)), str(rows or ""), f"{size / 2**20:.1f}", shown(newest))
    console.print(table)


def _show_runs(workspace: Path, console: Console) -> None:
    records = run_records(workspace)[-SHOWN_RUNS:]
    if not records:
        return
    table = plain_table("run", "configuration", "started", "ended", "ran", "cached", right=("run", "ran", "cached"))
    for record in records:
        counts = (str(sum(task["state"] == state for task in record.tasks)) for state in ("ran", "cached"))
        started = record.started[:19].replace("T", " ")
        ended = record.end or "killed or still going"
        table.add_row(str(record.number), *map(shown, (record.name, started, ended)), *counts)
    console.print()
    console.print(table)


def _show_damages(store: ArtifactStore, console: Console) -> None:
    from mlc.translation.memory import MEMORY_FOLDER

    sentences = [f"Damaged record: {problem}." for problem in damaged_records(store.workspace)]
    damages = read_damages(store.workspace)
    if damages:
        sentences.append(f"Artifacts that were found damaged and set aside: {len(damages)}. The last:")
    sentences += [
        f"  {damage.when[:19].replace('T', ' ')}  {damage.kind} {damage.key[:SHOWN_DIGITS]}: {damage.problem}"
        for damage in damages[-SHOWN_DAMAGES:]
    ]
    parts = len(list((store.workspace / MEMORY_FOLDER).glob("*/*/*/damaged/*")))
    if parts:
        sentences.append(f"Parts of the translation memory that were found damaged and set aside: {parts}.")
    for number, sentence in enumerate(sentences):
        console.print(f"{'' if number else chr(10)}{shown(sentence)}", highlight=False, soft_wrap=True)


def _show_versions(store: ArtifactStore, console: Console) -> None:
    from tasks.runtime.registry import (
        CANDIDATE,
        CHAMPION,
        PROMOTIONS_FILE,
        candidate,
        champion,
        looking_at,
        note_champion,
        read_promotions,
        registry_of,
    )

    settings, record = registry_of(store), store.workspace / PROMOTIONS_FILE
    with looking_at(settings, store) as client:
        aliases = {CANDIDATE: candidate(client, settings.model_name)}
        look = partial(note_champion, record=record) if store.writable else champion
        aliases[CHAMPION] = look(client, name=settings.model_name)
        versions = client.search_model_versions(f"name = '{settings.model_name}'")
    table = plain_table("version", "gate", "policy", "languages", "seed", "alias")
    for version in sorted(versions, key=lambda found: int(found.version)):
        tags = version.tags
        alias = ", ".join(name for name, number in aliases.items() if number == str(version.version))
        gate = "cannot answer" if tags.get("asked") == "failed" else tags.get("gate", "not judged")
        told = (gate, *(tags.get(name, "") for name in ("gate.policy", "languages", "seed")))
        table.add_row(str(version.version), *map(shown, told), alias)
    console.print(f"\nRegistered model {shown(settings.model_name)}:", highlight=False)
    console.print(table)
    promotions = read_promotions(record, settings.model_name)
    if promotions:
        last = promotions[-1]
        what = f"Last promotion: version {last['version']}" if last["version"] else "The alias champion was taken away"
        console.print(f"\n{shown(what)}, {shown(last['time'])}, by {shown(last['by'])}.", highlight=False)
