"""The figures of every run of a workspace, in a line each."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from flows.looking.reading import method_of
from mlc.errors import UserError
from mlc.evaluation.results import SUMMARY_FILE
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord, run_records
from tasks.runtime.artifacts import DECISION_FILE, VERSION_FILE


@dataclass(frozen=True)
class RunLine:
    """One run; what is not there or no longer whole is None."""

    run: int
    id: str
    configuration: str
    started: str
    state: str
    """``completed``, ``failed``, ``interrupted``, ``killed``, or ``killed or still going``."""
    candidate: str | None
    selectivity: float | None
    """Of the candidate's answers, in [-1, 1]: mean over seeds and languages, English included."""
    worst_selectivity: float | None
    worst_language: str | None
    """NLLB code."""
    over_refusal: float | None
    """Share of harmless prompts that are refused, mean as above."""
    gate: str | None
    """``passed`` or ``failed``."""
    model: str | None
    """Name of the registered model."""
    version: str | None


def run_lines(store: ArtifactStore, limit: int) -> list[RunLine]:
    """The last runs of a workspace, oldest first.

    Args:
        store: The workspace.
        limit: How many at most.
    """
    return [run_line(store, record) for record in run_records(store.workspace)[-limit:]]


def run_of_champion(store: ArtifactStore) -> RunRecord:
    """The run that registered the champion, as far as this workspace has heard.

    Raises:
        UserError: There is no champion, or it was registered by a run that is not recorded here.
    """
    from tasks.runtime.registry.addresses import registry_of
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE, read_promotions

    name = registry_of(store).model_name
    promotions = read_promotions(store.workspace / PROMOTIONS_FILE, name)
    version = promotions[-1]["version"] if promotions else None
    if not version:
        raise UserError(f"There is no champion of {name!r} yet: name another run, or promote a version first.")
    naming = []
    for record in run_records(store.workspace):
        registered = _content(store, record, "register", VERSION_FILE)
        if (registered.get("name"), registered.get("version")) == (name, version):
            # A rerun finds the same version in the cache, and registered nothing.
            if any((task["stage"], task["state"]) == ("register", "ran") for task in record.tasks):
                return record
            naming.append(record)
    if naming:
        return naming[0]
    raise UserError(
        f"The champion, version {version} of {name!r}, was registered by no run that is recorded in this workspace: "
        "name another run."
    )


def run_line(store: ArtifactStore, record: RunRecord) -> RunLine:
    """The figures of one run."""
    # Earlier releases named one method.
    candidate = record.config.get("candidate") or record.config.get("method")
    selectivity = _by_language(store, record, candidate, "selectivity")
    over_refusal = _by_language(store, record, candidate, "harmless_refused")
    worst = min(selectivity, key=lambda code: (selectivity[code], code), default=None)
    decision, version = (
        _content(store, record, stage, name) for stage, name in (("promote", DECISION_FILE), ("register", VERSION_FILE))
    )
    passed = decision.get("passed")
    return RunLine(
        run=record.number,
        id=record.id,
        configuration=record.name,
        started=record.started,
        state=record.end or "killed or still going",
        candidate=candidate,
        selectivity=_mean(selectivity),
        worst_selectivity=None if worst is None else selectivity[worst],
        worst_language=worst,
        over_refusal=_mean(over_refusal),
        gate=None if passed is None else "passed" if passed else "failed",
        model=version.get("name"),
        version=version.get("version"),
    )


def _by_language(store: ArtifactStore, record: RunRecord, candidate: Any, figure: str) -> dict[str, float]:
    """A figure of the candidate by language, mean over seeds; languages in which a seed lacks it are left out."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for task in record.tasks:
        if task["stage"] == "evaluate" and method_of(str(task["subject"])) == candidate:
            value = (_read(store, task, SUMMARY_FILE).get(figure) or {}).get("value")
            values[task["language"]].append(math.nan if value is None else value)
    means = {code: fmean(each) for code, each in values.items()}
    return {code: value for code, value in means.items() if not math.isnan(value)}


def _mean(values: dict[str, float]) -> float | None:
    return fmean(values.values()) if values else None


def _content(store: ArtifactStore, record: RunRecord, stage: str, name: str) -> dict[str, Any]:
    found = [task for task in record.tasks if task["stage"] == stage]
    return _read(store, found[-1], name) if found else {}


def _read(store: ArtifactStore, task: dict[str, Any], name: str) -> dict[str, Any]:
    """A file of an artifact; nothing if that is no longer whole."""
    ref = store.intact(task["stage"], task["key"])
    return _json(store.folder(ref) / name) if ref else {}


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
