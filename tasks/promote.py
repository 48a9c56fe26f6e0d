"""Stage ``promote``: the gate decides whether the candidate becomes champion."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from mlc.errors import UserError
from mlc.evaluation.gate.deciding import GateDecision, decide_gate
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.results import read_evaluations
from mlc.languages import resolve_language
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import DECISION_FILE
from tasks.runtime.registry.champions import champion_beside, look_at_champion, note_champion, promote_version
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.failures import registry_errors
from tasks.runtime.registry.promotions import PROMOTIONS_FILE
from tasks.runtime.registry.versions import ModelVersion, checkpoint_of, read_told_in, read_version
from tasks.runtime.run import Run
from tasks.runtime.settings import RegistrySettings, Roles
from tasks.runtime.stage import Stage, produce, stage_task
from tasks.runtime.version_page import GATE, GATE_CHAMPION, GATE_FAILED, GATE_POLICY, NOBODY, WAITS, describe_version

STAGE = Stage("promote", version=2, module=__name__)
REGISTERED_DECISION = "gate.json"
"""The decision, among the files of the MLflow run that tells how the version was measured."""
LONGEST_TAG = 500


@stage_task("promote", "promote · {registry.model_name}")
def promote(
    run: Run,
    version: ArtifactRef,
    results: Mapping[str, ArtifactRef],
    settings: GateSettings,
    registry: RegistrySettings,
    roles: Roles,
    champion: str | None,
) -> ArtifactRef:
    """Judges the candidate and, if it passes and no person has to approve, gives it the alias ``champion``.

    One that fails or waits keeps its alias ``candidate``; the champion stays what it was.

    Args:
        run: The run.
        version: The registered candidate.
        results: Evaluations of all models, the champion's among them where the policy compares with it.
        settings: The policy.
        registry: Where it is registered.
        roles: Which model is the candidate, and what it is compared with.
        champion: Version of the champion that was evaluated; None where there was none, or the policy does not ask.

    Returns:
        ``decision.json``: passed, the policy, every check as a row and in words, the version, the champion that it was
        compared with, the previous champion, whether it waits for a person. The same stands in MLflow, as ``gate.json``
        of the run that tells how the version was measured.

    Raises:
        UserError: It is passed, and meanwhile another version has become champion.
    """
    parts = STAGE.parts(
        {
            "gate": settings.model_dump(mode="json"),
            "registry": registry.model_dump(mode="json"),
            "roles": asdict(roles),
            "champion": champion,
        },
        {"version": version, **{f"evaluation {name}": ref for name, ref in results.items()}},
    )

    def write(draft: Draft) -> None:
        read = read_evaluations(map(run.store.folder, results.values()))
        decision = decide_gate(read, settings, **asdict(roles))
        candidate = read_version(run.store, version)
        waits = decision.passed and registry.promoted_by == "person"
        record, previous = run.workspace / PROMOTIONS_FILE, None
        with registry_errors(registry, run.workspace):
            client = connect(registry, run.workspace)
            if decision.passed and not waits:
                if settings.compares_with_champion:
                    _require_same_champion(run, registry, candidate, champion)
                previous = promote_version(client, record, candidate, decision.reasons, by="gate")
            else:
                note_champion(client, record, candidate.name)
            told_in = read_told_in(run.store, version)
            facts = {"champion": champion, "previous": previous, "waits": waits, "told_in": told_in}
            stored = {**decision.plain(), **candidate.as_dict(), **facts}
            client.log_dict(told_in, stored, REGISTERED_DECISION)
            for tag, value in _tags(decision, champion, waits).items():
                client.set_model_version_tag(candidate.name, candidate.version, tag, value)
            describe_version(client, candidate.name, candidate.version)
        (draft.path / DECISION_FILE).write_text(json.dumps(stored, indent=1), encoding="utf-8")

    if not run.planning:
        # A decision that is there already would not look.
        look_at_champion(registry, run.workspace)
    return produce(run, STAGE, parts, write)


def _require_same_champion(run: Run, registry: RegistrySettings, candidate: ModelVersion, compared: str | None) -> None:
    key = checkpoint_of(registry, run.workspace, candidate.version)
    now = champion_beside(registry, run.workspace, key or "")
    if now != compared:
        raise UserError(
            f"The champion of {registry.model_name!r} changed while the run went on, from "
            f"{_version(compared)} to {_version(now)}: run again, which compares with the new one; what is finished is "
            "kept."
        )


def _version(number: str | None) -> str:
    return "none" if number is None else f"version {number}"


def _word(decision: GateDecision) -> str:
    return "passed" if decision.passed else "failed"


def _not_kept(decision: GateDecision) -> str:
    """The conditions that are not kept, and where; languages by name."""
    places: dict[str, list[str]] = {name: [] for name in decision.failed}
    for check in decision.checks:
        if not check.passed:
            alone = resolve_language(check.languages[0]).english_name if len(check.languages) == 1 else ""
            places[check.name].append(check.where.replace(check.languages[0], alone) if alone else check.where)
    return "; ".join(f"{name} ({', '.join(where)})" for name, where in places.items())


def _tags(decision: GateDecision, champion: str | None, waits: bool) -> dict[str, str]:
    return {
        GATE: _word(decision),
        GATE_POLICY: decision.policy,
        GATE_FAILED: _not_kept(decision)[:LONGEST_TAG] or "nothing",
        GATE_CHAMPION: NOBODY if champion is None else champion,
        WAITS: str(waits).lower(),
    }
