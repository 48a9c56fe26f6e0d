"""What Prefect's page of a flow run shows beside its tasks: tags, plan, filter, figures, gate, and where all lies.

Each artifact has a key, so that Prefect's pages show how it changed from run to run. None holds a prompt or an answer,
and none that fails fails the run.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from flows.configuration.pipeline import PipelineConfig
from flows.looking.planning import planned_stages
from flows.looking.rows import KEPT
from mlc.languages import resolve_language
from mlc.report.wording import check_words, checks_in_order, needs_in_words
from mlc.urls import HIDDEN, redacted
from tasks.runtime.artifacts import COSTS_FILE, FUNNEL_FILE, METRICS_FILE, plain, read_rows
from tasks.runtime.progress import duration
from tasks.runtime.registry.addresses import tracking_uri
from tasks.runtime.run import Outcome, Run, harmless

PLAN, FILTER, RESULTS, COSTS, GATE, REPORT = "plan", "filter", "results", "costs", "gate", "report"
"""Keys of the artifacts."""
LANGUAGES_TAGGED = 6
"""Of more languages than this, a tag counts the rest."""
FIGURES = {
    "selectivity": "selectivity",
    "attack_success": "attack success",
    "harmless_refused": "over-refusal",
    "auroc": "margin AUROC",
}
"""Figures of the table of results, and what they are called there."""
PAGE, MLFLOW = "http://127.0.0.1:4300", "http://127.0.0.1:5000"
"""Where `mlc ui` serves the runs of a workspace and its MLflow, unless their usual ports are taken."""
_FALLBACK = "fallback"

_known_plan: ContextVar[Sequence[Mapping[str, Any]] | None] = ContextVar("mlc_known_plan", default=None)


@contextmanager
def knowing(planned: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Lets the flow that starts in the block take over a plan, see :func:`flows.commands.plan.planned_task`."""
    token = _known_plan.set(planned)
    try:
        yield
    finally:
        _known_plan.reset(token)


@harmless
def show_tags(config: PipelineConfig, run_id: str) -> None:
    """Adds to a flow run the tags by which people find it."""
    _add_tags(run_id, tags_of(config))


@harmless
def show_beginning(config: PipelineConfig, run_id: str, foresee: Callable[[], Iterable[Outcome]]) -> None:
    """Shows what a flow run is about and what it will do.

    Args:
        config: The pipeline.
        run_id: Of the flow run, in whose body this is called.
        foresee: Makes the plan, where whoever started the flow had none, such as a deployment.
    """
    show_tags(config, run_id)
    planned = _known_plan.get()
    if planned is None:
        planned = [asdict(outcome) | {"action": outcome.state} for outcome in foresee()]
    work = sum(task["action"] == "run" for task in planned)
    told = f"{work} of {len(planned)} tasks to run"
    create_markdown_artifact(key=PLAN, markdown=plan_page(planned), description=told)


@harmless
def show_filter(run: Run) -> None:
    """Shows what the filter kept and dropped, once it is through; nothing where no flow run is going on."""
    if run.planning or run.looking or FlowRunContext.get() is None:
        return
    run.catch_up()
    if rows := filter_rows(run):
        asked, kept = (sum(row[name] for row in rows) for name in ("translations", "kept"))
        told = f"{kept} of {asked} translations of the training prompts kept"
        create_table_artifact(key=FILTER, table=rows, description=told)


@harmless
def show_end(config: PipelineConfig, workspace: Path, summary: Mapping[str, Any]) -> None:
    """Shows what came of a flow run.

    Args:
        config: The pipeline.
        workspace: Folder of the workspace.
        summary: The fields of :class:`flows.steps.summing_up.RunSummary`.
    """
    version, gate = summary["model_version"], summary["gate"]
    name = f"{version['name']} version {version['version']}"
    decision = f"{gate['policy']} {_word(gate)}, {name}"
    _add_tags(summary["run_id"], [f"gate: {_word(gate)}", f"version: {version['name']} {version['version']}"])
    metrics = json.loads((Path(summary["report"]).parent / METRICS_FILE).read_text(encoding="utf-8"))
    create_table_artifact(
        key=RESULTS, table=result_rows(metrics), description="Figures of every model with 95 % intervals"
    )
    if costs := cost_rows(Path(summary["report"]).parent):
        create_table_artifact(key=COSTS, table=costs, description="What one model of each method takes")
    create_markdown_artifact(key=GATE, markdown=gate_page(gate, name), description=decision)
    create_markdown_artifact(key=REPORT, markdown=report_page(config, workspace, summary), description=name)


def tags_of(config: PipelineConfig) -> list[str]:
    """Tags by which people find flow runs."""
    # Of folders the name says enough, and no page needs to know the rest.
    model = redacted(config.policy.model)
    model = Path(model).name if Path(model).is_absolute() else model
    names = [resolve_language(code).english_name for code in config.languages]
    more = len(names) - LANGUAGES_TAGGED
    return [
        f"configuration: {config.name}",
        f"workspace: {Path(config.workspace).resolve().name}",
        f"model: {model}",
        f"method: {config.candidate}",
        *(f"language: {name}" for name in names[:LANGUAGES_TAGGED]),
        *([f"and {more} more language{'s' * (more != 1)}"] if more > 0 else []),
    ]


def plan_page(planned: Sequence[Mapping[str, Any]]) -> str:
    """A plan by stage, as Markdown."""
    stages = planned_stages(planned)
    work = [task for stage in stages for task in stage.tasks]
    rows = []
    for stage in stages:
        why = f"{stage.reasons[0]}{', and others' * (len(stage.reasons) > 1)}" if stage.reasons else ""
        new = [task["rows_new"] for task in stage.tasks]
        rows.append(
            [
                stage.stage,
                str(len(stage.tasks)),
                str(stage.cached),
                "" if not new or None in new else f"{sum(new):,}",
                _about(stage.tasks),
                why,
            ]
        )
    about = f", about {_about(work)} of work by past runs" if _about(work) else ""
    head = f"**{len(work)} of {len(planned)} tasks to run**, {len(planned) - len(work)} cached{about}."
    return f"{head}\n\n{_table(('stage', 'to run', 'cached', 'new rows', 'about', 'why'), rows)}"


def _about(tasks: Sequence[Mapping[str, Any]]) -> str:
    """What tasks take by past runs; nothing where there is no experience of one of them."""
    seconds = [task["seconds_estimated"] for task in tasks]
    return "" if not seconds or None in seconds else duration(sum(seconds))


def filter_rows(run: Run) -> list[dict[str, Any]]:
    """What the filter kept of the translations of the training prompts, by language, and why it dropped the rest."""
    # Verdicts after a fallback hold those before it; those on answers have a subject of their own.
    last = {
        outcome.language: outcome
        for outcome in run.outcomes
        if outcome.stage == "filter" and (outcome.subject or _FALLBACK).startswith(_FALLBACK)
    }
    counts = {code: _funnel(run, one.key) for code, one in last.items() if code}
    total = Counter[str]()
    for own in counts.values():
        total.update({reason: rows for reason, rows in own.items() if reason != KEPT})
    rows = []
    for code in sorted(counts, key=lambda code: resolve_language(code).english_name):
        own = counts[code]
        asked, kept = sum(own.values()), own.get(KEPT, 0)
        rows.append(
            {
                "language": resolve_language(code).english_name,
                "translations": asked,
                "kept": kept,
                "kept share": f"{kept / asked:.0%}" if asked else "",
                **{f"dropped: {reason}": own.get(reason, 0) for reason, _ in total.most_common()},
            }
        )
    return rows


def _funnel(run: Run, key: str) -> dict[str, int]:
    rows = read_rows(run.store.place("filter", key) / FUNNEL_FILE).to_pylist()
    return {row["reason"]: row["rows"] for row in rows}


def result_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models' figures by group of languages, and the worst language of each.

    Args:
        metrics: See :data:`tasks.runtime.artifacts.METRICS_FILE`.
    """
    rows = []
    for model, groups in metrics["models"].items():
        worst = metrics["over_languages"].get(model, {}).get("selectivity", {})
        code = worst.get("worst_language")
        for group, figures in groups.items():
            if group == "seeds":
                continue
            rows.append(
                {
                    "model": model,
                    "languages": group,
                    **{name: plain(figures[metric]) for metric, name in FIGURES.items()},
                    "prompts": figures["auroc"]["n"],
                }
            )
        if code:
            rows.append(
                {
                    "model": model,
                    "languages": f"worst: {resolve_language(code).english_name}",
                    "selectivity": plain(worst["worst"]),
                }
            )
    return rows


def cost_rows(report: Path) -> list[dict[str, Any]]:
    """What one model of each method takes, with those that it starts from; nothing in reports of earlier releases.

    Args:
        report: Folder of the report.
    """
    path = report / COSTS_FILE
    if not path.is_file():
        return []
    return [
        {
            "method": cost["method"],
            "seconds": _rounded(cost["seconds"], 1),
            "seconds of its own": _rounded(cost["own_seconds"], 1),
            "tokens": _rounded(cost["tokens"], 0),
            "GiB": _rounded((cost["peak_memory_bytes"] or 0) / 2**30 or None, 1),
            "data beside the policy": needs_in_words(cost["needs"]),
        }
        for cost in json.loads(path.read_text(encoding="utf-8"))
    ]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def gate_page(gate: Mapping[str, Any], version: str) -> str:
    """The gate's decision and its checks, failed ones first, as Markdown."""
    against = f", compared with version {gate['champion']}" if gate["champion"] else ""
    head = f"**Gate {gate['policy']}: {_word(gate)}** for {version}{against}"
    rows = []
    for check in checks_in_order(gate["checks"]):
        name, where, value, interval, demand, verdict, asked = check_words(check)
        rows.append([name, where, f"{value} {interval}" if asked != "0" else value, demand, verdict, asked])
    return f"{head}\n\n{_table(('condition', 'where', 'value', 'bound', 'verdict', 'n'), rows)}"


def registry_server(config: PipelineConfig, workspace: Path) -> str | None:
    """Address of the MLflow server on which models are registered; None where it is a database."""
    uri = redacted(tracking_uri(config.registry, workspace)).replace(f"{HIDDEN}@", "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else None


def version_page(server: str, version: Mapping[str, str]) -> str:
    """Address of a registered version's page on an MLflow server."""
    return f"{server}/#/models/{quote(version['name'])}/versions/{version['version']}"


def report_page(config: PipelineConfig, workspace: Path, summary: Mapping[str, Any]) -> str:
    """Where the report, the registered version and the answers are, as Markdown."""
    version, number = summary["model_version"], summary["number"]
    served = registry_server(config, workspace)
    page = version_page(served or MLFLOW, version)
    own = f"{PAGE}/runs/{number}"
    lines = [
        f"**Run {number}** registered {version['name']} version {version['version']}; "
        f"its gate {summary['gate']['policy']} {_word(summary['gate'])}{_waiting(summary['gate'])}.",
        "",
        f"- [Report]({own}/report), [answers, failures, rejected rows and settings]({own}) of this run",
        f"- [Version {version['version']} in MLflow]({page}), MLflow run `{version['run_id']}`",
    ]
    lines += [f"- Left out: {sentence}" for sentence in summary["left_out"]]
    lines += [f"- Set aside: {name}; the report says why" for name in summary["set_aside"]]
    also = "" if served else " and MLflow"
    where = f"`mlc ui` serves the page of runs{also} of the workspace `{workspace}`; the report is the file"
    return "\n".join([*lines, "", where, "", f"`{summary['report']}`"])


def _word(gate: Mapping[str, Any]) -> str:
    return "passed" if gate["passed"] else "failed"


def _waiting(gate: Mapping[str, Any]) -> str:
    return "; it waits for a person, by the deployment `promote` or `mlc promote`" if gate.get("waits") else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _add_tags(run_id: str, tags: Sequence[str]) -> None:
    """Adds tags to those of the flow run, such as a deployment's."""
    with get_client(sync_client=True) as client:
        there = client.read_flow_run(UUID(run_id)).tags
        client.update_flow_run(UUID(run_id), tags=list(dict.fromkeys([*there, *tags])))
