"""`mlc gc`, `mlc export`, `mlc import`: room, and artifacts that travel."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.housekeeping import (
    Artifact,
    Garbage,
    artifacts_of,
    direct_inputs,
    export_run,
    garbage,
    import_archive,
    kept_runs,
    remove,
)
from mlc.store.locks import workspace_lock
from mlc.store.runs import find_run, run_records

MEMORY_FOLDER = "memory"


def collect_garbage(workspace: Path, *, keep_last: int, dry_run: bool, memory: bool, console: Console) -> int:
    """Removes artifacts that no kept run and no registered model version needs.

    Kept are: every artifact of the last runs that completed and of all that began later; and of each version that
    stands in the registry its registration, model, evaluations and decision.

    Args:
        workspace: Folder of the workspace.
        keep_last: How many completed runs to keep.
        dry_run: Only say what would go.
        memory: Also the translation memories of translators that no kept run uses.
        console: Where to print.

    Returns:
        Bytes that went, or would go.

    Raises:
        UserError: A run is using the workspace.
    """
    store = ArtifactStore(workspace)
    if dry_run:
        found = _find(store, keep_last, memory)
    else:
        with workspace_lock(store.workspace):
            found = _find(store, keep_last, memory)
            remove(store, [item for item in found if item.what != MEMORY_FOLDER])
            for item in found:
                if item.what == MEMORY_FOLDER:
                    shutil.rmtree(item.path)
    total = sum(item.bytes for item in found)
    _show(found, console)
    verb = "would be removed" if dry_run else "removed"
    console.print(f"{len(found)} things, {total} bytes ({total / 2**20:.1f} MiB) {verb}.", highlight=False)
    return total


def _find(store: ArtifactStore, keep_last: int, memory: bool) -> list[Garbage]:
    records = run_records(store.workspace)
    needed = artifacts_of(kept_runs(records, keep_last)) | _of_registered_versions(store)
    found = garbage(store, needed, unfinished=not records or records[-1].end == "completed")
    return found + (_unused_memories(store, needed) if memory else [])


def _of_registered_versions(store: ArtifactStore) -> set[Artifact]:
    from tasks.runtime.registry import read_version, version_problem
    from tasks.runtime.settings import RegistrySettings

    standing: set[Artifact] = set()
    for manifest in store.manifests("register"):
        ref = store.find("register", manifest["key"])
        if ref is None:
            continue
        try:
            settings = RegistrySettings(**manifest["parts"]["settings"]["registry"])
            gone = version_problem(read_version(store, ref), settings, store.workspace)
        except UserError:  # a registry that cannot be asked may hold it
            gone = None
        if gone is None:
            standing.add(("register", ref.key))
    made = {store.manifest(*artifact)["sha256"] for artifact in standing}
    decisions = {
        ("promote", manifest["key"])
        for manifest in store.manifests("promote")
        if manifest["parts"]["inputs"].get("version") in made
    }
    return standing | decisions | direct_inputs(store, standing)


def _unused_memories(store: ArtifactStore, needed: set[Artifact]) -> list[Garbage]:
    used = []
    for kind, key in needed:
        if kind == "translate" and (ref := store.glance(kind, key)):
            parts = store.manifest(ref.kind, ref.key)["parts"]
            used.append((parts["models"]["translator"], parts["settings"]["translator"]))
    found = []
    for folder in sorted((store.workspace / MEMORY_FOLDER).glob("*")):
        if folder.is_dir() and _translator_of(folder) not in used:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found.append(Garbage(folder, size, MEMORY_FOLDER))
    return found


def _translator_of(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        facts = json.loads((folder / "translator.json").read_text(encoding="utf-8"))
        return facts["model"], {"engine": facts["engine"], **facts["decoding"]}
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}


def _show(found: Iterable[Garbage], console: Console) -> None:
    counts: dict[str, list[int]] = {}
    for item in found:
        counts.setdefault(item.what, []).append(item.bytes)
    if not counts:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "count", "bytes"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for what, sizes in counts.items():
        table.add_row(what, str(len(sizes)), str(sum(sizes)))
    console.print(table)


def export(workspace: Path, run: str, file: Path, console: Console) -> None:
    """Writes a run's artifacts as one archive.

    Args:
        workspace: Folder of the workspace.
        run: Number of the run, the beginning of its id, or ``last``.
        file: The archive.
        console: Where to print.

    Raises:
        UserError: There is no such run, or an artifact of it is gone.
    """
    store = ArtifactStore(workspace)
    records = run_records(store.workspace)
    record = records[-1] if run == "last" and records else find_run(records, run)
    with workspace_lock(store.workspace, shared=True):
        count = export_run(store, record, file)
    console.print(f"{count} artifacts of run {record.number} in {file} ({file.stat().st_size} bytes).", highlight=False)


def take_in(workspace: Path, file: Path, console: Console) -> None:
    """Takes over the artifacts of an archive.

    Args:
        workspace: Folder of the workspace; made if it is not there.
        file: The archive.
        console: Where to print.

    Raises:
        UserError: The archive is damaged.
    """
    store = ArtifactStore(workspace)
    with workspace_lock(store.workspace, shared=True):
        new, count = import_archive(store, file)
    console.print(f"{new} of {count} artifacts are new in {workspace}.", highlight=False)
