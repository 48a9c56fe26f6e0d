"""Stage ``promote``: the gate decides whether the candidate becomes champion."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from prefect.artifacts import create_markdown_artifact

from mlc.evaluation.gate import GateDecision, GateSettings, decide_gate
from mlc.evaluation.results import read_evaluations
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import DECISION_FILE
from tasks.runtime.registry import (
    PROMOTIONS_FILE,
    ModelVersion,
    connect,
    look_at_champion,
    note_champion,
    promote_version,
    read_version,
    registry_errors,
)
from tasks.runtime.run import Run
from tasks.runtime.settings import RegistrySettings, Roles
from tasks.runtime.stage import Stage, produce, shows, stage_task

STAGE = Stage("promote", version=1, module=__name__)


@stage_task("promote", "promote · {registry.model_name}")
def promote(
    run: Run,
    version: ArtifactRef,
    results: Mapping[str, ArtifactRef],
    settings: GateSettings,
    registry: RegistrySettings,
    roles: Roles,
) -> ArtifactRef:
    """Judges the candidate and, if it passes, gives it the alias ``champion``.

    A candidate that fails keeps its alias ``candidate``; the champion stays what it was.

    Args:
        run: The run.
        version: The registered candidate.
        results: Evaluations of all models.
        settings: The limits.
        registry: Where it is registered.
        roles: Which model is the candidate, and what it is compared with.

    Returns:
        ``decision.json``: passed, checks in words, version, the previous champion.
    """
    parts = STAGE.parts(
        {
            "gate": settings.model_dump(mode="json"),
            "registry": registry.model_dump(mode="json"),
            "roles": asdict(roles),
        },
        {"version": version, **{f"evaluation {name}": ref for name, ref in results.items()}},
    )

    def write(draft: Draft) -> None:
        read = read_evaluations(map(run.store.folder, results.values()))
        decision = decide_gate(read, settings, **asdict(roles))
        candidate = read_version(run.store, version)
        record, previous = run.workspace / PROMOTIONS_FILE, None
        with registry_errors(registry, run.workspace):
            client = connect(registry, run.workspace)
            if decision.passed:
                previous = promote_version(client, record, candidate, decision.reasons, by="gate")
            else:
                note_champion(client, record, candidate.name)
            client.set_model_version_tag(candidate.name, candidate.version, "gate", _word(decision))
        stored = {"passed": decision.passed, "reasons": decision.reasons, **candidate.as_dict(), "previous": previous}
        (draft.path / DECISION_FILE).write_text(json.dumps(stored, indent=1), encoding="utf-8")
        _show(decision, candidate)

    if not run.planning:
        # A decision that is there already would not look.
        look_at_champion(registry, run.workspace)
    return produce(run, STAGE, parts, write)


def _word(decision: GateDecision) -> str:
    return "passed" if decision.passed else "failed"


@shows
def _show(decision: GateDecision, version: ModelVersion) -> None:
    lines = "\n".join(f"- {reason}" for reason in decision.reasons)
    create_markdown_artifact(
        key="gate",
        markdown=f"**Gate {_word(decision)}** for {version.name} version {version.version}\n\n{lines}\n",
        description="The gate's checks, failed ones first.",
    )
