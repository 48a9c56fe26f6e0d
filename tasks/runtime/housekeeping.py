"""What may go from a workspace: what neither a recent run nor a registered version needs."""

import json
import shutil
from pathlib import Path
from typing import Any

from mlc.store import ArtifactStore
from mlc.store.hashing import folder_files
from mlc.store.housekeeping import Artifact, Garbage, artifacts_of, direct_inputs, garbage, kept_runs, remove
from mlc.store.locks import workspace_lock
from mlc.store.names import lies_in
from mlc.store.runs import run_records
from mlc.translation.memory import MEMORY_FOLDER
from tasks.runtime.prefect_database import forget_runs, old_runs
from tasks.runtime.registry.versions import read_version, version_problem
from tasks.runtime.settings import RegistrySettings


def sweep(store: ArtifactStore, *, keep_last: int, memory: bool, dry_run: bool) -> list[Garbage]:
    """Removes artifacts that no kept run and no registered model version needs, and what Prefect holds of older runs.

    Kept are: every artifact of the last runs that completed and of all that began later; and of each version that
    stands in the registry its registration, model, evaluations and decision.

    Args:
        store: The workspace's.
        keep_last: How many completed runs to keep.
        memory: Also the translation memories of translators that no kept run uses.
        dry_run: Only find what would go.

    Returns:
        What went, or would go.

    Raises:
        UserError: A run is using the workspace.
    """
    if dry_run:
        return _find(store, keep_last, memory) + old_runs(store.workspace, _older(store.workspace, keep_last))
    with workspace_lock(store.workspace):
        found = _find(store, keep_last, memory)
        remove(store, [item for item in found if item.what != MEMORY_FOLDER])
        for item in found:
            if item.what == MEMORY_FOLDER:
                item.path.unlink() if item.path.is_symlink() else shutil.rmtree(item.path)
        return found + forget_runs(store.workspace, _older(store.workspace, keep_last))


def _older(workspace: Path, keep_last: int) -> set[str]:
    """The flow runs that are older than those that are kept."""
    records = run_records(workspace)
    kept = {record.number for record in kept_runs(records, keep_last)}
    return {record.id for record in records if record.id and record.number not in kept}


def _find(store: ArtifactStore, keep_last: int, memory: bool) -> list[Garbage]:
    records = run_records(store.workspace)
    needed = artifacts_of(kept_runs(records, keep_last)) | _of_registered_versions(store)
    found = garbage(store, needed, unfinished=not records or records[-1].end == "completed")
    return found + (_unused_memories(store, needed) if memory else [])


def _of_registered_versions(store: ArtifactStore) -> set[Artifact]:
    standing: set[Artifact] = set()
    for manifest in store.manifests("register"):
        ref = store.find("register", manifest["key"])
        if ref is None:
            continue
        try:
            settings = RegistrySettings(**manifest["parts"]["settings"]["registry"])
            gone = version_problem(read_version(store, ref), settings, store.workspace)
        except (ValueError, KeyError, TypeError):  # a registry that cannot be asked, or is not named, may hold it
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
            used.append((parts["models"].get("translator"), parts["settings"].get("translator")))
    found: list[Garbage] = []
    memories = store.workspace / MEMORY_FOLDER
    if not lies_in(memories, store.workspace):
        return found
    for folder in sorted(memories.glob("*")):
        if folder.is_dir() and _translator_of(folder) not in used:
            size = 0 if folder.is_symlink() else sum(file.stat().st_size for file in folder_files(folder))
            found.append(Garbage(folder, size, MEMORY_FOLDER))
    return found


def _translator_of(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        facts = json.loads((folder / "translator.json").read_text(encoding="utf-8"))
        return facts["model"], {"engine": facts["engine"], **facts["decoding"]}
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}
