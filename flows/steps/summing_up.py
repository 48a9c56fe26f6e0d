"""What a run says of itself at its end, in the report and to whoever started it."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flows.configuration.pipeline import PipelineConfig
from flows.promoting import was_promoted
from mlc.methods import BASE, BASE_LABEL, CHAMPION, in_order, resolve_method
from mlc.methods.needs import needs_of
from mlc.store import ArtifactRef
from mlc.store.keeping import kept_sentences
from tasks.report import ReportFacts
from tasks.runtime.artifacts import left_out_in_words, read_decision, read_headline, read_set_aside, report_page
from tasks.runtime.champion import Champion
from tasks.runtime.run import Run


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_id: str
    """Id of the flow run in Prefect; empty if it has none, see :func:`flows.align_flow.find_all`."""
    number: int
    """Counts the runs of the workspace; what ``mlc why --against`` and ``mlc export`` take."""
    tasks: list[dict[str, Any]]
    """See :func:`flows.commands.plan.with_outcomes`."""
    seconds_saved: float
    """What the cached artifacts took when they were made."""
    metrics: dict[str, Any]
    """Headline figures, see :func:`tasks.report.read_headline`."""
    model_version: dict[str, str]
    """Name and version of the registered model, and the MLflow run that tells how it was measured: that of the version
    or, if the version was there already, a later one."""
    gate: dict[str, Any]
    """``passed``, ``policy``, ``reasons`` (the checks in sentences, failed ones first), ``checks`` (the same as rows,
    see :meth:`mlc.evaluation.gate.deciding.Check.row`), ``champion``, the version that it was compared with, and
    ``waits``, whether the version is for a person to promote and nobody has yet."""
    report: str
    """Path of the report."""
    set_aside: dict[str, str]
    """Why each method that the run went on without was set aside."""
    left_out: list[str]
    """What the run went without, in sentences."""
    seconds: float


def kept_in(run: Run) -> tuple[str, ...]:
    """Which results of a run so far a person kept although code or a library had changed."""
    run.catch_up()
    there = [(outcome.stage, outcome.key) for outcome in run.outcomes if outcome.state != "run"]
    return kept_sentences(run.store, there)


def report_facts(
    config: PipelineConfig,
    references: Collection[str],
    champion: Champion | None,
    kept: tuple[str, ...],
    licences: Mapping[str, str],
    set_aside: Iterable[tuple[str, str]] = (),
) -> ReportFacts:
    """What the report says of the configuration, its models' licences, the champion, and results that were kept.

    And of methods that were set aside.
    """
    labels = [(BASE, BASE_LABEL), *((method.name, method.label) for method in config.methods)]
    if champion:
        labels.append((CHAMPION, f"Champion, version {champion.version}"))
    controls = map(resolve_method, resolve_method(config.candidate).controls)
    return ReportFacts(
        settings=config.summary() | {f"licence of the {role}": told for role, told in licences.items()},
        trained_languages=config.roles.trained,
        machine_translated_languages=tuple(code for code in config.measured_languages if code not in references),
        roles=replace(config.roles, champion=CHAMPION if champion else None),
        kept=kept,
        labels=tuple(labels),
        controls=tuple((method.name, method.label) for method in controls),
        made_of=tuple(
            (tuple(method.name for method in chain), tuple(sorted(needs_of(chain[-1], config.serve.reads))))
            for chain in (in_order([name]) for name in config.models)
        ),
        texts=config.report.texts,
        set_aside=tuple((resolve_method(name).label, name, reason) for name, reason in set_aside),
    )


def summarise_run(run: Run, number: int, started: float, report: ArtifactRef, decision: ArtifactRef) -> RunSummary:
    """Collects what a run says of itself at the end."""
    run.catch_up()
    gate = read_decision(run.store, decision)
    return RunSummary(
        run_id=run.id,
        number=number,
        tasks=[asdict(outcome) for outcome in run.outcomes],
        seconds_saved=round(sum(outcome.seconds_saved for outcome in run.outcomes), 1),
        metrics=read_headline(run.store, report),
        # Decisions of earlier releases know the run of the version alone.
        model_version={
            **{name: gate[name] for name in ("name", "version")},
            "run_id": gate.get("told_in", gate["run_id"]),
        },
        gate={
            **{name: gate[name] for name in ("passed", "policy", "reasons", "checks", "champion")},
            "waits": bool(gate.get("waits")) and not was_promoted(run.workspace, gate),
        },
        report=str(report_page(run.store, report)),
        set_aside=read_set_aside(run.store, report),
        left_out=left_out_in_words(run.store, report),
        seconds=round(time.perf_counter() - started, 1),
    )
