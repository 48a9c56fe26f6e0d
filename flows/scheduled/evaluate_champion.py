"""The live champion by today's prompts and judges, beside what it was registered with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from flows.align_flow import at_work, in_workspace, settings_meant, settings_of
from flows.configuration.pipeline import PipelineConfig
from flows.looking.drift import (
    Drift,
    changes_in_words,
    changes_since,
    drift_of,
    measured_at_registration,
    measured_in,
)
from flows.notifying import tell_stopped, telling_every_end
from flows.showing import show_tags
from flows.steps import evaluating
from flows.steps.checking import check_left_out
from flows.steps.held_out import human_references, ingest_held_out, take_suites
from mlc.errors import UserError
from mlc.evaluation.gate.deciding import HEADS, GateDecision, decide_gate
from mlc.evaluation.results import EvaluationResult, read_evaluations
from mlc.methods import BASE, CHAMPION
from mlc.report.wording import check_words
from mlc.stopping import Stopped
from mlc.store import ArtifactRef
from tasks.ingest import ingest_suite
from tasks.runtime.champion import Champion, live_champion
from tasks.runtime.models import Model
from tasks.runtime.policies import require_policy
from tasks.runtime.run import Run
from tasks.runtime.stage import insisting
from tasks.runtime.unexpected import confined

DRIFTED = "Drifted"
"""Name of the state of a flow run that shows the champion to be worse than it was; for automations to listen to."""


def _run_name() -> str:
    settings = settings_meant(flow_run.parameters)
    return f"champion · {settings.name} · {settings.languages_label}"


@flow(name="evaluate-champion", flow_run_name=_run_name, **telling_every_end(settings_meant))
def evaluate_champion(
    config: str | dict[str, Any] = "quickstart",
    languages: list[str] | None = None,
    workspace: str | None = None,
    hours: float | None = None,
) -> dict[str, Any]:
    """Measures the live champion as a run would today, and says what became of its figures since it was registered.

    A model does not change by itself, and what decides a figure is in the key of its artifact. So only what is not as
    it was is measured anew: prompts, suites, judges, settings, code, libraries. Where nothing of that has changed, the
    figures are those of the registration, and the run says so.

    Args:
        config: As for :func:`flows.align_flow.align`; of the policy's settings those of computing count.
        languages: Languages in place of the configuration's.
        workspace: Workspace in place of the configuration's.
        hours: As for :func:`flows.align_flow.align`.

    Returns:
        ``version``, ``changed``, ``notes`` and ``worse``, see :class:`flows.looking.drift.Drift`, and ``below``: the
        conditions of the gate that need no other model, that it kept when it was registered, and does not keep now. The
        state of the flow run is named :data:`DRIFTED` where there is anything in the last two.

    Raises:
        UserError: There is no champion, or it cannot be measured.
    """
    settings = settings_of(config, languages, workspace)
    return confined(Path(settings.workspace), "the check of the champion", lambda: _check(settings, hours))


def _check(settings: PipelineConfig, hours: float | None) -> dict[str, Any]:
    try:
        # No run of the pipeline: what `mlc show` and others take for the last one stays that.
        with in_workspace(settings, record=False) as run:
            show_tags(settings, run.id)
            with at_work(run, settings, hours):
                champion, measured = _measure(run, settings)
            return _tell(run, settings, champion, measured)
    except Stopped:
        tell_stopped(settings)
        return cast(dict[str, Any], Cancelled(message="Stopped; what is finished is kept."))


def _measure(run: Run, settings: PipelineConfig) -> tuple[Champion, Sequence[ArtifactRef]]:
    """What the champion does with the held-out prompts and the suites of a configuration."""
    anchor, own = settings.anchor_language, settings.policy
    policy = Model(BASE, None, own, own.device, own.dtype, own.attention)
    require_policy(run, policy)
    champion = insisting(run, lambda: live_champion(run, policy, settings.registry))
    name = settings.registry.model_name
    if champion is None:
        raise UserError(f"There is no champion of {name!r} to measure: promote a version first.")
    if champion.model is None:
        raise UserError(f"The champion, version {champion.version} of {name!r}, cannot be measured: see the log.")
    references = human_references(settings)
    suite = ingest_suite.submit(run, settings.evaluation, anchor, anchor)
    check_left_out(run, settings, suite.result())
    held_out = ingest_held_out(run, settings, suite, references)
    suites = take_suites(run, settings)
    found = evaluating.evaluate_champion(run, settings, champion, held_out, suites).all
    return champion, [future.result() for future in found.values()]


def _tell(run: Run, settings: PipelineConfig, champion: Champion, measured: Sequence[ArtifactRef]) -> dict[str, Any]:
    before = measured_at_registration(run.store, settings.registry.model_name, champion.version)
    now = measured_in(run.store, [ref.key for ref in measured])
    drift = drift_of(before, now, changes_since(run.store, before, now))
    decision = _gate_alone(settings, read_evaluations(map(run.store.folder, measured)), CHAMPION)
    then = _gate_alone(settings, [one.result for one in before], before[0].result.summary.model) if before else None
    # What it did with suites then is not known here.
    never = {check.name for check in then.checks if not check.passed and not check.suite} if then else set()
    below = [name for name in (decision.failed if decision else []) if name not in never]
    lines = [
        f"**Champion: version {champion.version} of {settings.registry.model_name}**",
        _comparison_in_words(drift, known=bool(before)),
        *drift.notes,
        f"Worse than it was: {', '.join(drift.worse)}." if drift.worse else "",
        f"Of the gate {settings.gate.name}, it does not keep: {', '.join(below)}." if below else "",
    ]
    create_markdown_artifact(
        key="champion-today",
        markdown="\n\n".join(filter(None, lines)),
        description="The live champion, measured again.",
    )
    if drift.figures:
        create_table_artifact(
            key="drift",
            table=drift.rows(),
            description="Then and now on the same prompts, with 95 % intervals; p is adjusted for the number of "
            "languages (Holm).",
        )
    if decision:
        rows = [dict(zip(HEADS, check_words(check.row()), strict=True)) for check in decision.checks]
        told = f"The conditions of the gate {settings.gate.name} that need no other model."
        create_table_artifact(key="gate-today", table=rows, description=told)
    facts = {
        "version": champion.version,
        "changed": list(drift.changed),
        "notes": list(drift.notes),
        "worse": list(drift.worse),
        "below": below,
    }
    if not drift.worse and not below:
        return facts
    words = "; ".join([*drift.worse, *below])
    return cast(
        dict[str, Any], Completed(name=DRIFTED, message=f"The champion is not what it was: {words}.", data=facts)
    )


def _comparison_in_words(drift: Drift, *, known: bool) -> str:
    if not known:
        return "It was not registered in this workspace, so that its figures of then are not known here."
    if drift.changed:
        return f"Since it was registered: {changes_in_words(drift.changed)}."
    if drift.notes:
        return "Judges, settings and code are those of its registration."
    return "Nothing that decides its figures has changed since it was registered, so that they are the same."


def _gate_alone(settings: PipelineConfig, results: Sequence[EvaluationResult], model: str) -> GateDecision | None:
    """The conditions that a model keeps or not by itself, whatever others do; None if the policy has none."""
    alone = tuple(condition for condition in settings.gate.conditions if condition.against == "absolute")
    if not alone:
        return None
    gate = settings.gate.model_copy(update={"conditions": alone})
    return decide_gate(results, gate, candidate=model, baseline=BASE, base=BASE, trained=settings.roles.trained)
