"""What a workspace holds: its artifacts by stage, and what of it is damaged."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlc.store import ArtifactStore
from mlc.store.damages import read_damages
from mlc.store.runs import damaged_records, run_records

SHOWN_DAMAGES = 5
SHOWN_DIGITS = 12
"""Of a key, for people."""


@dataclass(frozen=True)
class Held:
    """The artifacts of one stage."""

    artifacts: int
    rows: int
    bytes: int
    newest: str


def held_artifacts(store: ArtifactStore, stages: Iterable[str]) -> dict[str, Held]:
    """The artifacts of those of the stages that have some, in their order."""
    found = {}
    for stage in stages:
        manifests = store.manifests(stage)
        if manifests:
            found[stage] = Held(
                artifacts=len(manifests),
                rows=sum(manifest["rows"] or 0 for manifest in manifests),
                bytes=sum(file["bytes"] for manifest in manifests for file in manifest["files"].values()),
                newest=manifests[-1]["created"],
            )
    return found


def stages_held(store: ArtifactStore) -> list[str]:
    """The stages that a workspace has artifacts of, as its runs came to them; without a look at the stages' code."""
    come = (task["stage"] for record in run_records(store.workspace) for task in record.tasks)
    there = sorted(path.name for path in store.root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return list(dict.fromkeys([*come, *there]))


def damages_of(store: ArtifactStore) -> list[str]:
    """What was found damaged, in sentences; nothing where all is whole."""
    from mlc.translation.memory import MEMORY_FOLDER

    sentences = [f"Damaged record: {problem}." for problem in damaged_records(store.workspace)]
    damages = read_damages(store.workspace)
    if damages:
        sentences.append(f"Artifacts that were found damaged and set aside: {len(damages)}. The last:")
    sentences += [
        f"  {short_time(damage.when)}  {damage.kind} {damage.key[:SHOWN_DIGITS]}: {damage.problem}"
        for damage in damages[-SHOWN_DAMAGES:]
    ]
    parts = len(list((store.workspace / MEMORY_FOLDER).glob("*/*/*/damaged/*")))
    if parts:
        sentences.append(f"Parts of the translation memory that were found damaged and set aside: {parts}.")
    return sentences


def short_time(text: str) -> str:
    """A time of a record or a manifest, which are all in UTC, such as ``2026-11-26 04:35:15 UTC``."""
    return f"{text[:19].replace('T', ' ')} UTC" if text else ""
